//! How nodes agree on who owns what: [`view::View`] says it, and [`views::Views`] decides which view comes next.

pub mod view;
pub mod views;
