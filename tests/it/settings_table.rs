//! The README's table of settings is the one that the program prints.

use std::fs;
use std::path::Path;

const START: &str = "<!-- settings -->";
const END: &str = "<!-- /settings -->";

#[test]
fn the_readme_lists_the_settings_there_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let table = readme.split_once(START).and_then(|(_, rest)| rest.split_once(END)).map(|(table, _)| table.trim());
    let Some(table) = table else {
        panic!("README.md has no table of settings: put the output of `waystation settings` between {START} and {END}")
    };
    let expected = waystation::config::table::markdown();
    let (mut written, mut printed) = (table.lines(), expected.trim().lines());
    loop {
        match (written.next(), printed.next()) {
            (None, None) => break,
            (old, new) if old == new => {}
            (old, new) => panic!(
                "the table of settings in README.md is out of date\n  README.md: {}\n  program:   {}\n\
                 put the output of `waystation settings` between {START} and {END}",
                old.unwrap_or("(ends)"),
                new.unwrap_or("(ends)"),
            ),
        }
    }
}
