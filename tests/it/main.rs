//! Behaviour of the whole: its shape, its documentation, and what leaves the process.

mod layers;
mod settings_table;
mod traces;
