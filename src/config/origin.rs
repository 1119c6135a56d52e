//! Where a value came from.

use std::fmt;

/// A layer of the configuration. Later ones win over earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerKind {
    /// Built in.
    Default,
    /// The configuration file.
    File,
    /// The environment.
    Environment,
    /// The command line.
    Flag,
}

impl LayerKind {
    const ALL: [Self; 4] = [Self::Default, Self::File, Self::Environment, Self::Flag];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        }
    }
}

/// The layer that gave a value and the name that it was given by. Prints as `environment PORT`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The layer.
    pub layer: LayerKind,
    /// The setting, file key, variable or flag.
    pub name: String,
}

impl Origin {
    /// The inverse of printing; `None` for anything else.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (layer, name) = text.split_once(' ')?;
        let layer = LayerKind::ALL.into_iter().find(|kind| kind.as_str() == layer)?;
        Some(Self { layer, name: name.to_owned() })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.layer.as_str(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_read() {
        for layer in LayerKind::ALL {
            let origin = Origin { layer, name: "--port".into() };
            assert_eq!(Origin::read(&origin.to_string()), Some(origin));
        }
        assert_eq!(Origin::read("moon X"), None);
    }
}
