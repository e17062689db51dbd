//! The window's design in one place: type scale, colours, spacing, light and dark themes. Views contain no such
//! numbers.

use std::sync::Arc;

use egui::epaint::text::{FontTweak, VariationCoords};
use egui::{Color32, CornerRadius, FontData, FontDefinitions, FontFamily, FontId, Margin, Shadow, Stroke, TextStyle};
use egui::{Context, Theme, Visuals, vec2};

/// The maximum width of an answer's text: longer lines are hard to read.
pub const COLUMN: f32 = 740.0;
/// Width of the list of conversations.
pub const LIST: f32 = 256.0;
/// Width of the panel at the right.
pub const PANEL: f32 = 320.0;
/// Narrower windows show panels over the conversation, not next to it.
pub const NARROW: f32 = 820.0;
/// Side of a square button that holds an icon.
pub const ICON: f32 = 30.0;
/// Radius of cards, of the composer, and of the user's messages.
pub const RADIUS: u8 = 14;
/// Radius of buttons and rows.
pub const SMALL_RADIUS: u8 = 8;
/// Spacing within a part, between parts, and between messages.
pub const GAP: f32 = 8.0;
pub const WIDE_GAP: f32 = 16.0;
pub const MESSAGE_GAP: f32 = 22.0;

/// What remains in view when a key scrolls by a page, and how far an arrow key scrolls.
pub const SCROLL_OVERLAP: f32 = 48.0;
pub const SCROLL_STEP: f32 = 60.0;

const BODY: f32 = 15.0;

/// Headings and names.
pub fn strong(size: f32) -> FontId {
    FontId::new(size, FontFamily::Name("strong".into()))
}

/// Colours that egui's visuals lack.
#[derive(Clone, Copy, Debug)]
pub struct Colours {
    /// Background of the list and of the side panel.
    pub side: Color32,
    /// Background of the user's messages and of cards.
    pub card: Color32,
    /// Separators.
    pub line: Color32,
    /// Secondary text.
    pub quiet: Color32,
    /// The accent: selections and primary buttons.
    pub accent: Color32,
    /// Text on the accent.
    pub on_accent: Color32,
    /// Success, warning, error.
    pub good: Color32,
    pub warn: Color32,
    pub bad: Color32,
    /// Series of a bar or plot; their order distinguishes them without colour vision.
    pub parts: [Color32; 4],
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

const DARK: Colours = Colours {
    side: rgb(0x17181c),
    card: rgb(0x2a2c33),
    line: rgb(0x33353d),
    quiet: rgb(0x9a9da8),
    accent: rgb(0xf0843c),
    on_accent: rgb(0x1b1208),
    good: rgb(0x6cc48a),
    warn: rgb(0xe5b454),
    bad: rgb(0xf07a6c),
    parts: [rgb(0xf0843c), rgb(0x6aa6e8), rgb(0x9d87e0), rgb(0x6d7280)],
};

const LIGHT: Colours = Colours {
    side: rgb(0xf4f3ef),
    card: rgb(0xebe9e3),
    line: rgb(0xdedbd4),
    quiet: rgb(0x66686f),
    accent: rgb(0xb8500c),
    on_accent: rgb(0xffffff),
    good: rgb(0x1f7a43),
    warn: rgb(0x8a5d00),
    bad: rgb(0xb83227),
    parts: [rgb(0xd8661c), rgb(0x2f74c0), rgb(0x7656c8), rgb(0x9a9da6)],
};

/// The colours of `ui`'s theme.
pub fn colours(ui: &egui::Ui) -> Colours {
    if ui.visuals().dark_mode { DARK } else { LIGHT }
}

/// Background of the conversation.
pub fn back(visuals: &Visuals) -> Color32 {
    visuals.panel_fill
}

/// Background of buttons and text fields on a panel.
pub fn raised(ui: &egui::Ui) -> Color32 {
    if ui.visuals().dark_mode { DARK.card } else { ui.visuals().window_fill }
}

/// Installs the fonts and both themes. The system or `ctx.set_theme` selects one.
pub fn install(ctx: &Context) {
    ctx.set_fonts(fonts());
    for (theme, colours) in [(Theme::Dark, DARK), (Theme::Light, LIGHT)] {
        ctx.style_mut_of(theme, |style| {
            style.text_styles = [
                (TextStyle::Small, FontId::proportional(12.0)),
                (TextStyle::Body, FontId::proportional(BODY)),
                (TextStyle::Button, FontId::proportional(13.5)),
                (TextStyle::Monospace, FontId::monospace(13.0)),
                (TextStyle::Heading, strong(21.0)),
            ]
            .into();
            style.visuals = visuals(theme, &colours);
            let spacing = &mut style.spacing;
            spacing.item_spacing = vec2(GAP, 6.0);
            spacing.button_padding = vec2(10.0, 5.0);
            spacing.interact_size = vec2(32.0, 28.0);
            spacing.menu_margin = Margin::same(8);
            spacing.window_margin = Margin::same(18);
            spacing.icon_width = 16.0;
            spacing.icon_spacing = 8.0;
            spacing.tooltip_width = 320.0;
            spacing.slider_width = 150.0;
            spacing.scroll = egui::style::ScrollStyle::floating();
            style.interaction.tooltip_delay = 0.35;
            style.explanation_tooltips = false;
            style.url_in_tooltip = true;
        });
    }
}

fn visuals(theme: Theme, c: &Colours) -> Visuals {
    let dark = theme == Theme::Dark;
    let mut v = if dark { Visuals::dark() } else { Visuals::light() };
    let (back, text, bright) = if dark {
        (rgb(0x1e1f24), rgb(0xd9dae0), rgb(0xffffff))
    } else {
        (rgb(0xffffff), rgb(0x2b2c30), rgb(0x0d0d0f))
    };
    v.panel_fill = back;
    v.window_fill = if dark { rgb(0x26282e) } else { rgb(0xffffff) };
    v.extreme_bg_color = if dark { rgb(0x101115) } else { rgb(0xf7f6f3) };
    v.text_edit_bg_color = Some(if dark { v.extreme_bg_color } else { rgb(0xffffff) });
    v.code_bg_color = if dark { rgb(0x2d2f37) } else { rgb(0xefede8) };
    v.faint_bg_color = if dark { rgb(0x24262b) } else { rgb(0xf8f7f5) };
    v.hyperlink_color = if dark { rgb(0x7fb2ef) } else { rgb(0x1f5fae) };
    v.weak_text_color = Some(c.quiet);
    v.warn_fg_color = c.warn;
    v.error_fg_color = c.bad;
    v.window_stroke = Stroke::new(1.0, c.line);
    v.window_corner_radius = CornerRadius::same(RADIUS);
    v.menu_corner_radius = CornerRadius::same(10);
    let shade = if dark { 110 } else { 34 };
    v.window_shadow = Shadow { offset: [0, 10], blur: 30, spread: 0, color: Color32::from_black_alpha(shade) };
    v.popup_shadow = Shadow { offset: [0, 6], blur: 18, spread: 0, color: Color32::from_black_alpha(shade) };
    v.selection.bg_fill = c.accent.gamma_multiply(if dark { 0.40 } else { 0.24 });
    v.selection.stroke = Stroke::new(1.0, if dark { bright } else { c.accent });
    v.indent_has_left_vline = false;
    let radius = CornerRadius::same(SMALL_RADIUS);
    let hover = if dark { rgb(0x34363f) } else { rgb(0xe2dfd8) };
    let press = if dark { rgb(0x3d4049) } else { rgb(0xd8d5cc) };
    let widgets = &mut v.widgets;
    let states = [
        (&mut widgets.noninteractive, back, text),
        (&mut widgets.inactive, c.card, text),
        (&mut widgets.hovered, hover, bright),
        (&mut widgets.active, press, bright),
        (&mut widgets.open, hover, bright),
    ];
    for (state, fill, ink) in states {
        state.bg_fill = fill;
        state.weak_bg_fill = fill;
        state.bg_stroke = Stroke::NONE;
        state.fg_stroke = Stroke::new(1.0, ink);
        state.corner_radius = radius;
        state.expansion = 0.0;
    }
    widgets.noninteractive.bg_stroke = Stroke::new(1.0, c.line);
    // egui draws `strong` text in the colour of pressed widgets.
    widgets.active.fg_stroke.color = bright;
    v
}

const ARABIC: &[u8] = include_bytes!("../../assets/chat/arabic.ttf");
const HEBREW: &[u8] = include_bytes!("../../assets/chat/hebrew.ttf");

/// Inter for text (Noto for Arabic and Hebrew), egui's fonts for code and emoji, Phosphor for icons. System fonts
/// supply the rest.
fn fonts() -> FontDefinitions {
    let mut fonts = FontDefinitions::default();
    let inter = |weight: f32| {
        let mut data = FontData::from_static(include_bytes!("../../assets/chat/inter.ttf"));
        data.tweak = FontTweak { coords: VariationCoords::new([(b"wght", weight)]), ..Default::default() };
        Arc::new(data)
    };
    let mut icons = FontData::from_static(include_bytes!("../../assets/chat/phosphor.ttf"));
    icons.tweak = FontTweak { y_offset_factor: 0.06, ..Default::default() };
    fonts.font_data.insert("inter".into(), inter(410.0));
    fonts.font_data.insert("inter strong".into(), inter(620.0));
    fonts.font_data.insert("phosphor".into(), Arc::new(icons));
    // Scripts with joined letters need a whole font: a browser lends glyphs one by one.
    for (name, bytes) in [("arabic", ARABIC), ("hebrew", HEBREW)] {
        fonts.font_data.insert(name.into(), Arc::new(FontData::from_static(bytes)));
    }
    let plain = fonts.families.get(&FontFamily::Proportional).cloned().unwrap_or_default();
    let with = |first: &str| {
        let mut all: Vec<String> = [first, "phosphor", "arabic", "hebrew"].map(String::from).into();
        all.extend(plain.iter().cloned());
        all
    };
    fonts.families.insert(FontFamily::Proportional, with("inter"));
    fonts.families.insert(FontFamily::Name("strong".into()), with("inter strong"));
    fonts
}
