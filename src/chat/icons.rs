//! The window's icons: code points of the font `assets/chat/phosphor.ttf`, which `scripts/chat-fonts.py` subsets to
//! exactly these. Icons are text, so they inherit the colour and size of their surroundings.

pub const NEW: &str = "\u{e34c}";
pub const SEND: &str = "\u{e08e}";
pub const STOP: &str = "\u{e46c}";
pub const COPY: &str = "\u{e1ca}";
pub const EDIT: &str = "\u{e3b4}";
pub const SEARCH: &str = "\u{e30c}";
pub const SETTINGS: &str = "\u{e434}";
pub const DEVICE: &str = "\u{e610}";
pub const MODEL: &str = "\u{e1da}";
pub const LEFT: &str = "\u{e138}";
pub const RIGHT: &str = "\u{e13a}";
pub const DOWN: &str = "\u{e136}";
pub const AGAIN: &str = "\u{e036}";
pub const SIDEBAR: &str = "\u{ec24}";
pub const CLOSE: &str = "\u{e4f6}";
pub const CHECK: &str = "\u{e182}";
pub const WARNING: &str = "\u{e4e0}";
pub const INFO: &str = "\u{e2ce}";
pub const THINKING: &str = "\u{e74e}";
pub const MORE: &str = "\u{e1fe}";
pub const FLAME: &str = "\u{e624}";
pub const XRAY: &str = "\u{e000}";
pub const CONTINUE: &str = "\u{e6a6}";
pub const FITS: &str = "\u{e184}";
pub const UNFIT: &str = "\u{e4f8}";
pub const DICE: &str = "\u{e1ee}";
pub const TOOL: &str = "\u{e5d4}";
pub const ATTACH: &str = "\u{e39a}";
