//! What reaches the terminal: text, colours, tables, JSON documents, lines and bars of progress. This folder
//! knows no verb, no connection and no exit code. No other folder prints to stdout; a test holds that.

pub mod ask;
pub mod bar;
pub mod json;
pub mod obstacles;
pub mod outlet;
pub mod printer;
pub mod progress;
pub mod raw;
pub mod redraw;
pub mod screen;
pub mod stream;
pub mod style;
pub mod table;
pub mod text;
pub mod width;
