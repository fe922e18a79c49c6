//! What is drawn, one file for each place. Any size of the screen is drawn on; what does not fit is
//! left out, from the bottom.

mod frame;
mod help;
mod overview;
mod rollout;

pub use frame::draw;
