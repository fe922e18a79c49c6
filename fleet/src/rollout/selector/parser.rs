//! Reads a written selector.

use super::{
    COMPARISONS, Comparison, KEYWORDS, SELECTOR_BYTES_MAX, SELECTOR_DEPTH_MAX, Selector,
    SelectorError, Subject, is_bare,
};

/// Returns the selector that `text` says.
///
/// # Errors
/// Where and why it is not one.
pub(super) fn parse(text: &str) -> Result<Selector, SelectorError> {
    if text.len() > SELECTOR_BYTES_MAX {
        return Err(SelectorError::TooLong(text.len()));
    }
    let mut parser = Parser { text, rest: text };
    let selector = parser.any(0)?;
    parser.skip_space();
    if parser.rest.is_empty() { Ok(selector) } else { Err(parser.wants("and, or, or the end")) }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// Alternatives with `or` between them.
    fn any(&mut self, depth: usize) -> Result<Selector, SelectorError> {
        let mut parts = vec![self.every(depth)?];
        while self.takes_keyword("or") {
            parts.push(self.every(depth)?);
        }
        Ok(joined(parts, Selector::Or))
    }

    /// Tests side by side, with or without `and` between them.
    fn every(&mut self, depth: usize) -> Result<Selector, SelectorError> {
        let mut parts = vec![self.one(depth)?];
        loop {
            if !self.takes_keyword("and") && !self.begins_one() {
                return Ok(joined(parts, Selector::And));
            }
            parts.push(self.one(depth)?);
        }
    }

    /// Whether a further test follows, rather than `or`, `)`, the end, or nonsense.
    fn begins_one(&mut self) -> bool {
        self.skip_space();
        let begins =
            self.rest.starts_with(|letter| is_bare(letter) || letter == '(' || letter == '"');
        begins && self.bare_word() != "or"
    }

    fn one(&mut self, depth: usize) -> Result<Selector, SelectorError> {
        if depth > SELECTOR_DEPTH_MAX {
            return Err(SelectorError::TooDeep);
        }
        if self.takes_keyword("not") {
            return Ok(Selector::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.takes_keyword("all") {
            return Ok(Selector::All);
        }
        if self.takes("(") {
            let inner = self.any(depth + 1)?;
            return if self.takes(")") { Ok(inner) } else { Err(self.wants("\")\"")) };
        }
        let quoted = self.rest.starts_with('"');
        const TEST: &str = "a test such as site=berlin";
        if !quoted && KEYWORDS.contains(&self.bare_word()) {
            return Err(self.wants(TEST));
        }
        let name = self.word(TEST)?;
        let subject = if quoted { Subject::Label(name) } else { Subject::named(name) };
        let how = self.comparison()?;
        Ok(Selector::Test(subject, how, self.word("a value")?))
    }

    fn comparison(&mut self) -> Result<Comparison, SelectorError> {
        self.skip_space();
        for (sign, comparison) in COMPARISONS {
            if self.takes(sign) {
                return Ok(comparison);
            }
        }
        Err(self.wants("= != ~ !~ < <= > or >="))
    }

    /// A bare or quoted word.
    fn word(&mut self, expected: &'static str) -> Result<String, SelectorError> {
        self.skip_space();
        if self.takes("\"") {
            return self.quoted();
        }
        let word = self.bare_word();
        if word.is_empty() {
            return Err(self.wants(expected));
        }
        self.rest = &self.rest[word.len()..];
        Ok(word.to_owned())
    }

    /// What is left of a quoted word; a backslash stands before a quote or a backslash.
    fn quoted(&mut self) -> Result<String, SelectorError> {
        let mut word = String::new();
        let mut letters = self.rest.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '"' => {
                    self.rest = letters.as_str();
                    return Ok(word);
                }
                '\\' => match letters.next() {
                    Some(letter @ ('"' | '\\')) => word.push(letter),
                    _ => return Err(self.wants("\\\" or \\\\ after a backslash")),
                },
                letter => word.push(letter),
            }
        }
        self.rest = "";
        Err(self.wants("a closing quote"))
    }

    /// The word that begins here, which may be empty.
    fn bare_word(&self) -> &'a str {
        let end = self.rest.find(|letter| !is_bare(letter)).unwrap_or(self.rest.len());
        &self.rest[..end]
    }

    fn takes_keyword(&mut self, keyword: &str) -> bool {
        self.skip_space();
        self.bare_word() == keyword && self.takes(keyword)
    }

    fn takes(&mut self, sign: &str) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn wants(&self, expected: &'static str) -> SelectorError {
        let before = &self.text[..self.text.len() - self.rest.len()];
        let found = match self.rest.chars().next() {
            Some(letter) => format!("{:?}", letter.to_string()),
            None => "the end".to_owned(),
        };
        SelectorError::Unexpected { at: before.chars().count() + 1, expected, found }
    }
}

/// One part stands for itself.
fn joined(mut parts: Vec<Selector>, join: fn(Vec<Selector>) -> Selector) -> Selector {
    match parts.len() {
        1 => parts.remove(0),
        _ => join(parts),
    }
}
