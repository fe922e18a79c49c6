//! What bundles and images consist of: listed, compared, drawn.
//!
//! `listing`: the tree of an image, as JSON and in words. `subject`: one of two that are compared.
//! `pairs`: which part of one image is which of the other. `difference`: what differs, as JSON and
//! in words. `picture`: a map of the chip.

mod difference;
mod listing;
mod pairs;
mod picture;
mod subject;

pub use difference::{Bytes, Change, Difference, FieldChange, RuleChange, Side};
pub use listing::{Listed, Listing};
pub use picture::{Picture, draw};
pub use subject::{Rule, Subject};

#[cfg(test)]
mod tests;
