//! What `firmcast-fleet top` shows, and what its keys do. Pure: the command reads the store and
//! draws.
//!
//! | file | what it has |
//! | --- | --- |
//! | [`desk`] | what a person looks at, and what each key does |
//! | [`view`] | what is drawn of it, one file for each place |
//! | `lines.rs`, `host.rs` | a rollout's hosts, and one host, in lines |
//! | [`paint`] | colours, and text of any bytes in columns |
//!
//! A further view is a [`desk::Place`] with its [`desk::Picture`], and a file in `view/`.

pub mod desk;
mod host;
mod lines;
pub mod paint;
pub mod view;

#[cfg(test)]
mod tests;
