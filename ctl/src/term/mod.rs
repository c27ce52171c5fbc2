//! What reaches the terminal: text, tables, JSON documents, lines and bars of progress. This folder knows no
//! verb, no connection and no exit code. No other folder prints to stdout; a test holds that.

pub mod bar;
pub mod json;
pub mod obstacles;
pub mod printer;
pub mod progress;
pub mod stream;
pub mod table;
pub mod text;
