//! Rust source as words and marks, without comments and without what stands in literals.

/// A word or a mark, and the line on which it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

impl Token {
    pub(crate) fn is(&self, text: &str) -> bool {
        self.text == text
    }

    /// Returns whether the token is an identifier or a keyword.
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

/// Returns the tokens of a source. `::` is one token; a literal of any kind is the token `"`.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut scanner = Scanner { rest: source, line: 1 };
    let mut found = Vec::new();
    while let Some(token) = scanner.next() {
        found.push(token);
    }
    found
}

struct Scanner<'a> {
    rest: &'a str,
    line: usize,
}

impl Scanner<'_> {
    fn next(&mut self) -> Option<Token> {
        self.skip_blanks();
        let line = self.line;
        let first = self.rest.chars().next()?;
        let text = if let Some(length) = self.literal_bytes() {
            self.take(length);
            "\"".to_owned()
        } else if first.is_alphanumeric() || first == '_' {
            let is_end = |c: char| !c.is_alphanumeric() && c != '_';
            let length = self.rest.find(is_end).unwrap_or(self.rest.len());
            self.take(length).to_owned()
        } else if self.rest.starts_with("::") {
            self.take(2).to_owned()
        } else {
            self.take(first.len_utf8()).to_owned()
        };
        Some(Token { text, line })
    }

    fn take(&mut self, length: usize) -> &str {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn skip_blanks(&mut self) {
        loop {
            let before = self.rest.len();
            let blanks = before - self.rest.trim_start().len();
            self.take(blanks);
            if self.rest.starts_with("//") {
                self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
            } else if self.rest.starts_with("/*") {
                self.take(block_comment_bytes(self.rest));
            }
            if self.rest.len() == before {
                return;
            }
        }
    }

    /// Returns the length of the string, byte string or character that starts here.
    fn literal_bytes(&self) -> Option<usize> {
        let unprefixed = self.rest.trim_start_matches(['b', 'c']);
        let prefix = self.rest.len() - unprefixed.len();
        if prefix > 1 {
            return None;
        }
        if let Some(raw) = unprefixed.strip_prefix('r') {
            let hashes = raw.len() - raw.trim_start_matches('#').len();
            raw[hashes..].strip_prefix('"')?;
            let end = format!("\"{}", "#".repeat(hashes));
            let start = prefix + 1 + hashes + 1;
            let inside = self.rest[start..].find(&end)?;
            return Some(start + inside + end.len());
        }
        let quote = unprefixed.chars().next().filter(|first| matches!(first, '"' | '\''))?;
        if quote == '\'' && is_lifetime(unprefixed) {
            return None;
        }
        quoted_bytes(unprefixed, quote).map(|length| prefix + length)
    }
}

/// `'a` without a second mark, unlike `'a'`.
fn is_lifetime(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    let (first, second) = (chars.next(), chars.next());
    first.is_some_and(|first| first.is_alphabetic() || first == '_') && second != Some('\'')
}

fn quoted_bytes(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn block_comment_bytes(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        match rest {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_literals_hide_what_stands_in_them() {
        let source = "a /* b /* c */ d */ // e\n \"f \\\" g\" r#\"h \" i\"# b\"j\" 'k' '\\'' k";
        assert_eq!(texts(source), ["a", "\"", "\"", "\"", "\"", "\"", "k"]);
    }

    #[test]
    fn lifetimes_are_no_characters() {
        assert_eq!(texts("&'a str, 'b'"), ["&", "'", "a", "str", ",", "\""]);
    }

    #[test]
    fn words_that_begin_like_a_literal_are_words() {
        assert_eq!(texts("bytes ring b r b::c"), ["bytes", "ring", "b", "r", "b", "::", "c"]);
    }

    #[test]
    fn lines_are_counted_through_comments_and_literals() {
        let lines: Vec<usize> =
            tokens("a\n/*\n*/ b \"\n\" c").into_iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 3, 3, 4]);
    }
}
