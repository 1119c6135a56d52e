//! What holds of the table as a whole.

use std::collections::BTreeSet;

use super::print::other_names;
use super::*;

#[test]
fn no_two_settings_share_a_name() {
    let names = || SETTINGS.iter().flat_map(|s| std::iter::once(s.name.to_owned()).chain(other_names(s)));
    assert_eq!(names().collect::<BTreeSet<_>>().len(), names().count());
}

#[test]
fn every_default_is_accepted() {
    for setting in SETTINGS {
        assert!(setting.default.is_none_or(|text| setting.kind.accepts(text)), "{}", setting.name);
    }
}

#[test]
fn the_tables_show_every_setting_whole() {
    let (markdown, help) = (markdown(), help());
    assert_eq!(markdown.lines().count(), SETTINGS.len() + 2);
    assert!(markdown.lines().all(|line| line.matches('|').count() == 6), "{markdown}");
    for setting in SETTINGS {
        for name in std::iter::once(setting.name.to_owned()).chain(other_names(setting)) {
            assert!(markdown.contains(&format!("`{name}`")), "{name}");
            assert!(help.contains(&name), "{name}");
        }
    }
}
