//! Style and script. They are part of the program: nothing is built, nothing is fetched.

use std::fmt::Write as _;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::picture::mark::Mark;

/// Where the style sheet is.
pub(super) const STYLE: &str = concat!("/assets/page.css?", env!("CARGO_PKG_VERSION"));

/// Where the script is that keeps pages up to date.
pub(super) const SCRIPT: &str = concat!("/assets/live.js?", env!("CARGO_PKG_VERSION"));

pub(super) async fn style() -> Response {
    let mut text = include_str!("assets/page.css").to_owned();
    for mark in Mark::ALL {
        let ([red, green, blue], ink) = (mark.rgb(), ink(mark));
        let _ = writeln!(
            text,
            ".{}{{background:#{red:02x}{green:02x}{blue:02x};color:{ink}}}",
            mark.class()
        );
    }
    asset("text/css; charset=utf-8", text)
}

pub(super) async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("assets/live.js"))
}

fn asset(kind: &'static str, text: impl IntoResponse) -> Response {
    let cache = "public, max-age=300";
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, cache)], text).into_response()
}

/// The colour of letters on a mark's colour: black or white, whichever is easier to read.
fn ink(mark: Mark) -> &'static str {
    if contrast(mark.rgb(), [0; 3]) >= contrast(mark.rgb(), [255; 3]) { "#000" } else { "#fff" }
}

/// The contrast of two colours (WCAG 2.2, "contrast ratio"), from 1 to 21.
fn contrast(one: [u8; 3], other: [u8; 3]) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

/// The relative luminance of a colour (WCAG 2.2), from 0 to 1.
fn luminance(colour: [u8; 3]) -> f64 {
    let linear = colour.map(|part| {
        let part = f64::from(part) / 255.0;
        if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    });
    0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_can_be_read_on_every_colour() {
        assert!((contrast([0; 3], [255; 3]) - 21.0).abs() < 0.01);
        for mark in Mark::ALL {
            let on = if ink(mark) == "#000" { [0; 3] } else { [255; 3] };
            assert!(contrast(mark.rgb(), on) >= 4.5, "{mark:?}");
        }
    }
}
