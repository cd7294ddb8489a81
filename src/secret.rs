//! Text that must never be shown.

use std::fmt;

/// A password or token. `Debug` shows `***`; there is no `Display`. Only [`Secret::reveal`] gives the text, to whoever
/// sends it to the server it belongs to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// `text` with every occurrence of this secret masked, for foreign messages that may quote it. They may have lost what stands around it,
    /// such as the line end of a file that it was read from.
    pub fn mask(&self, text: &str) -> String {
        let bare = self
            .0
            .trim_matches(|char: char| char.is_whitespace() || char.is_control());
        if bare.is_empty() {
            text.to_owned()
        } else {
            text.replace(bare, "***")
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_words_show_a_secret_neither_as_it_is_nor_without_its_line_end() {
        let secret = Secret::new("hunter2\r\n");
        assert_eq!(secret.mask("no hunter2\r\n and hunter2."), "no ***\r\n and ***.");
        for nothing in ["", " ", "\n"] {
            assert_eq!(Secret::new(nothing).mask("a b\n"), "a b\n");
        }
    }
}
