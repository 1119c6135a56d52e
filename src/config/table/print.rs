//! The table as it is printed.

use super::{SETTINGS, Setting};

/// The table for the README: one row a setting.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from("| setting | default | range | aliases | meaning |\n| --- | --- | --- | --- | --- |\n");
    for setting in SETTINGS {
        let default = setting.default.map_or_else(|| "unset".to_owned(), |default| format!("`{default}`"));
        let aliases: Vec<_> = other_names(setting).map(|name| format!("`{name}`")).collect();
        out.extend([
            format!("| `{}` | {default} | {} | ", setting.name, setting.kind),
            format!("{} | {} |\n", aliases.join(", "), setting.doc),
        ]);
    }
    out
}

/// The table for the command line: the name with its default, and below it what it means and accepts.
#[must_use]
pub fn help() -> String {
    let mut out = String::from(
        "Settings, as environment variables; in a configuration file, in lower case without RELAY_.\n\
         Flags win over the environment, the environment over the file:\n",
    );
    for setting in SETTINGS {
        let others: Vec<_> = other_names(setting).collect();
        let also = if others.is_empty() { String::new() } else { format!(" Also: {}.", others.join(", ")) };
        let default = setting.default.unwrap_or("(unset)");
        out.extend([
            format!("\n  {} = {default}\n      {}.\n", setting.name, setting.doc),
            format!("      Takes {}.{also}\n", setting.kind),
        ]);
    }
    out
}

pub(super) fn other_names(setting: &Setting) -> impl Iterator<Item = String> {
    setting.aliases.iter().chain(setting.flags).map(ToString::to_string)
}
