//! The tool itself, started as a shell starts it, with a real node.

mod administering;
mod bench;
mod completing;
mod listening;
mod refusals;
mod server;
mod tool;
