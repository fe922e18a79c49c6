//! Colours, and text of any bytes in lines and columns of the screen.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

use crate::picture::mark::Mark;
use crate::picture::words::shown;

/// Which colours the screen has. No colour says what letters and words do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// None, or the person wants none.
    Plain,
    /// Those of the palette with 256 colours.
    Palette,
    /// All.
    Full,
}

impl Paint {
    /// Returns the style of a mark.
    pub fn mark(self, mark: Mark) -> Style {
        let style = match mark {
            Mark::Unsafe | Mark::Failed => Style::new().add_modifier(Modifier::BOLD),
            _ => Style::new(),
        };
        let [red, green, blue] = mark.rgb();
        match self {
            Self::Plain => style,
            Self::Palette => style.fg(Color::Indexed(nearest([red, green, blue]))),
            Self::Full => style.fg(Color::Rgb(red, green, blue)),
        }
    }
}

/// Returns the nearest colour of the cube of 6 x 6 x 6 that terminals with 256 colours have.
fn nearest(rgb: [u8; 3]) -> u8 {
    let level = |value: u8| match value {
        ..48 => 0,
        48..115 => 1,
        _ => (value - 35) / 40,
    };
    let [red, green, blue] = rgb.map(level);
    16 + 36 * red + 6 * green + blue
}

/// What must be seen first.
pub const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
/// What the next key is about.
pub const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Returns how many columns a text takes.
pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// Returns any text in just `columns` columns.
pub fn column(text: &str, columns: usize) -> String {
    let text = shown(text);
    let cut = width(&text) > columns;
    let room = columns.saturating_sub(usize::from(cut));
    let (mut kept, mut used) = (String::new(), 0);
    for letter in text.chars() {
        let letter_width = width(letter.encode_utf8(&mut [0; 4]));
        if used + letter_width > room {
            break;
        }
        used += letter_width;
        kept.push(letter);
    }
    if cut && columns > 0 {
        kept.push('\u{2026}');
        used += 1;
    }
    kept.extend(std::iter::repeat_n(' ', columns.saturating_sub(used)));
    kept
}

/// Returns any text in lines of at most `columns` columns, broken between words where that is
/// possible; all but the first begin with `indent` blanks.
pub fn wrapped(text: &str, columns: usize, indent: usize) -> Vec<String> {
    // The widest letter takes two columns, and has room behind the blanks.
    let indent = " ".repeat(indent.min(columns / 2).min(columns.saturating_sub(2)));
    let mut lines = Vec::new();
    let (mut line, mut used, mut is_bare) = (String::new(), 0, true);
    let mut begun_at = 0;
    for word in shown(text).split(' ') {
        if !is_bare && used + 1 + width(word) > columns {
            lines.push(std::mem::replace(&mut line, indent.clone()));
            (used, begun_at, is_bare) = (indent.len(), indent.len(), true);
        }
        if !is_bare {
            line.push(' ');
            used += 1;
        }
        for letter in word.chars() {
            let letter_width = width(letter.encode_utf8(&mut [0; 4]));
            if used + letter_width > columns && used > begun_at {
                lines.push(std::mem::replace(&mut line, indent.clone()));
                (used, begun_at) = (indent.len(), indent.len());
            }
            line.push(letter);
            used += letter_width;
        }
        is_bare = false;
    }
    lines.push(line);
    lines
}

/// Returns a bar of so many columns, of which a part is full.
pub fn bar(permille: u32, columns: usize) -> String {
    let full = (columns as u64 * u64::from(permille.min(1000)) / 1000) as usize;
    // What is begun is seen.
    let full = full.max(usize::from(permille > 0 && columns > 0));
    format!("[{}{}]", "#".repeat(full), ".".repeat(columns - full))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn colours_are_found_in_the_palette() {
        assert_eq!(nearest([0, 0, 0]), 16);
        assert_eq!(nearest([255, 255, 255]), 231);
        assert_eq!(nearest(Mark::Unsafe.rgb()), 16 + 36 * 4 + 6);
    }

    proptest! {
        #[test]
        fn any_text_fits_its_columns(text in "(\\PC|\\pC|[世界ä ]){0,60}", columns in 0..50_usize) {
            prop_assert_eq!(width(&column(&text, columns)), columns);
            for line in wrapped(&text, columns, 4) {
                prop_assert!(width(&line) <= columns.max(2), "{:?}", line);
                prop_assert!(!line.chars().any(char::is_control));
            }
        }
    }
}
