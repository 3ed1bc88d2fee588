//! The header fields of a request (RFC 9110, section 5).

/// A request's header fields in order, as pairs of lowercase name and value.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Iterates over the values of all fields with this name.
    pub(super) fn all(&self, name: &str) -> impl DoubleEndedIterator<Item = &str> {
        let lines = self.0.iter().filter(move |(there, _)| there == name);
        lines.map(|(_, value)| value.as_str())
    }

    #[cfg(test)]
    pub(super) fn from_lines(lines: &[(&str, &str)]) -> Fields {
        let line = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        lines.iter().map(line).collect()
    }
}

impl FromIterator<(String, String)> for Fields {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(lines: I) -> Fields {
        Fields(lines.into_iter().collect())
    }
}
