//! SVG, written element by element.

use std::fmt::Write as _;

/// Maximum length of a text, in characters; the rest becomes dots.
const TEXT_CHARS_MAX: usize = 110;

/// On which side of its place a text stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    End,
}

/// A picture in the making. Places and sizes are in pixels, texts are centred on their height.
#[derive(Debug)]
pub(super) struct Svg(String);

impl Svg {
    pub(super) fn new(width: usize, height: usize, ground: &str, ink: &str) -> Self {
        let mut svg = Self(String::new());
        svg.line(format_args!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>"));
        svg.line(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" width=\"{width}\" \
             height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
             font-size=\"12\" fill=\"{ink}\">"
        ));
        svg.line(format_args!(
            "<rect x=\"0\" y=\"0\" width=\"{width}\" height=\"{height}\" fill=\"{ground}\"/>"
        ));
        svg
    }

    /// A box, with what is shown of it under a pointer.
    pub(super) fn rect(
        &mut self,
        (x, y): (usize, usize),
        (width, height): (usize, usize),
        colour: &str,
        stroke: Option<&str>,
        title: &str,
    ) {
        if width == 0 || height == 0 {
            return;
        }
        let stroke = stroke.map(|colour| format!(" stroke=\"{colour}\" stroke-width=\"0.6\""));
        let stroke = stroke.unwrap_or_default();
        let end = match title {
            "" => "/>".to_owned(),
            title => format!("><title>{}</title></rect>", escaped(title)),
        };
        self.line(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" \
             fill=\"{colour}\"{stroke}{end}"
        ));
    }

    pub(super) fn text(&mut self, x: usize, y: usize, anchor: Anchor, colour: &str, words: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::End => "end",
        };
        let y = y + 4;
        self.line(format_args!(
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{}</text>",
            escaped(words)
        ));
    }

    /// The title of the whole.
    pub(super) fn title_text(&mut self, x: usize, y: usize, words: &str) {
        let words = escaped(words);
        self.line(format_args!(
            "<title>{words}</title><text x=\"{x}\" y=\"{}\" font-size=\"15\" \
             font-weight=\"bold\">{words}</text>",
            y + 4
        ));
    }

    pub(super) fn finish(mut self) -> String {
        self.line(format_args!("</svg>"));
        self.0
    }

    fn line(&mut self, line: std::fmt::Arguments) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// Returns text that means nothing but itself, whatever is in it: XML has no control characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for (index, character) in text.chars().enumerate() {
        match character {
            _ if index == TEXT_CHARS_MAX => {
                escaped.push_str("...");
                break;
            }
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push(char::REPLACEMENT_CHARACTER),
            character if character.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            character => escaped.push(character),
        }
    }
    escaped
}
