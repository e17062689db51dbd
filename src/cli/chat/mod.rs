//! The interactive chat of `run`: lines in, answers out, and commands.
//!
//! `editor` reads lines, `commands` says which of them are commands, `session` holds the conversation. The whole
//! conversation is sent each turn; the engine finds by itself how much of it is in its cache.

mod commands;
mod editor;
mod parameters;
mod session;

use firelight::conversation::ResponseFormat;
use firelight::engine::{Engine, ModelRef};
use firelight::session::SessionOptions;

use super::args::{DeviceArgs, OfflineArg};
use super::settings::{Settings, response_format};
use super::term::{self, Failure};
use super::{Result, info, terminal};
use commands::{Input, SlashAction};
use editor::{Line, LineEditor};
use parameters::{CONTEXT, PARAMETERS};
use session::Chat;

/// How another model is opened.
pub struct Opener {
    pub device: DeviceArgs,
    pub session: SessionOptions,
    pub offline: OfflineArg,
}

/// Talks until the user ends it. Returns the engine, and how many positions are filled.
pub async fn run(
    engine: Engine,
    place: ModelRef,
    settings: Settings,
    system: Option<String>,
    opener: Opener,
) -> Result<(Engine, usize)> {
    let mut editor = LineEditor::open()?;
    let mut chat = Chat::new(engine, place, settings, system, opener);
    term::aside(&chat.describe()?);
    term::aside("Type a message, or /? for help.");
    let mut interrupted = false;
    loop {
        let (text, quoted) = match editor.read()? {
            Line::Text { text, quoted } => (text, quoted),
            Line::End => break,
            // Pressed a moment after an answer has ended, it was not meant for the conversation.
            Line::Interrupt if !interrupted => {
                term::note("Ctrl-C once more, or Ctrl-D, ends the chat");
                interrupted = true;
                continue;
            }
            Line::Interrupt => return Err(Failure::Interrupted),
        };
        interrupted = false;
        match if quoted { Input::Message } else { Input::parse(&text) } {
            Input::Nothing => {}
            Input::Command(SlashAction::Quit, _) => break,
            Input::Command(action, rest) => command(&mut chat, &mut editor, action, rest).await?,
            Input::Unknown(name) => term::note(&commands::unknown(name)),
            Input::Message => chat.say(&text).await?,
        }
    }
    chat.end()
}

async fn command(chat: &mut Chat, editor: &mut LineEditor, action: SlashAction, rest: &str) -> Result {
    match action {
        SlashAction::Quit => {}
        SlashAction::Help => term::say(&commands::help(rest, terminal::columns().unwrap_or(80))),
        SlashAction::Clear => chat.clear(),
        SlashAction::Undo => chat.undo(),
        SlashAction::Regenerate => chat.regenerate().await?,
        SlashAction::Read if rest.is_empty() => term::note("/read needs a file, e.g. /read notes.txt"),
        SlashAction::Read => chat.read(rest),
        SlashAction::System if rest.is_empty() => term::say(&system(chat)),
        SlashAction::System => set_system(chat, rest),
        SlashAction::Set => set(chat, editor, rest).await?,
        SlashAction::Show => show(chat, rest)?,
        SlashAction::Model if rest.is_empty() => term::say(&chat.describe()?),
        SlashAction::Model => chat.change_model(rest).await?,
        SlashAction::Save if rest.is_empty() => term::note("/save needs a file, e.g. /save chat.json"),
        SlashAction::Save => chat.save(rest),
        SlashAction::Load if rest.is_empty() => term::note("/load needs a file, e.g. /load chat.json"),
        SlashAction::Load => chat.load(rest).await?,
        SlashAction::Seed if rest.is_empty() => term::note("/seed needs a whole number, e.g. /seed 42"),
        SlashAction::Seed => set_parameter(chat, "seed", rest).await?,
        SlashAction::Stats => term::say(&chat.stats()?),
    }
    Ok(())
}

fn system(chat: &Chat) -> String {
    chat.system.as_deref().map_or("No system prompt is set.".into(), term::printable)
}

fn set_system(chat: &mut Chat, text: &str) {
    let text = text.trim_matches('"');
    chat.system = (!text.is_empty()).then(|| text.to_string());
    term::aside(if chat.system.is_some() { "System prompt set." } else { "System prompt removed." });
}

/// `/set NAME [VALUE]`.
async fn set(chat: &mut Chat, editor: &mut LineEditor, rest: &str) -> Result {
    let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let (name, value) = (name.to_lowercase(), value.trim());
    let settings = &mut chat.settings;
    let done = match name.as_str() {
        "" => return Ok(term::say(&commands::help("set", terminal::columns().unwrap_or(80)))),
        "parameter" => {
            let (name, value) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
            return set_parameter(chat, name, value.trim()).await;
        }
        "system" => return Ok(set_system(chat, value)),
        "think" | "nothink" => {
            settings.think = Some(name == "think");
            let on = if name == "think" { "on" } else { "off" };
            chat.settings.check_think(chat.engine()?.model())?;
            format!("Reasoning is {on}.")
        }
        "format" => match response_format(if value.is_empty() { "json" } else { value }) {
            Ok(format) => {
                settings.format = format;
                "Answers are JSON.".into()
            }
            Err(failure) => return Ok(failure.print()),
        },
        "noformat" => {
            settings.format = ResponseFormat::Text;
            "Answers are text.".into()
        }
        "markdown" | "nomarkdown" => {
            settings.view.markdown = name == "markdown";
            format!("Markdown is {}.", if settings.view.markdown { "rendered" } else { "shown as it is written" })
        }
        "wordwrap" | "nowordwrap" => {
            settings.view.wrap = name == "wordwrap";
            format!("Lines end {}.", if settings.view.wrap { "between words" } else { "where the terminal ends" })
        }
        "verbose" | "quiet" => {
            settings.stats = name == "verbose";
            format!("Speed and seed are {} after each answer.", if settings.stats { "printed" } else { "not printed" })
        }
        "history" | "nohistory" => {
            editor.keep_history(name == "history");
            format!("What you type is {}.", if name == "history" { "kept for later chats" } else { "not kept" })
        }
        // `/set temperature 0.5`, too.
        _ if parameters::find(&name).is_some() || CONTEXT.contains(&parameters::normal(&name).as_str()) => {
            return set_parameter(chat, &name, value).await;
        }
        _ => return Ok(term::note(&format!("there is no setting {name}; /? set lists them"))),
    };
    term::aside(&done);
    Ok(())
}

async fn set_parameter(chat: &mut Chat, name: &str, value: &str) -> Result {
    if CONTEXT.contains(&parameters::normal(name).as_str()) {
        return match value.parse() {
            Ok(context) if context > 0 => chat.change_context(context).await,
            _ => Ok(term::note("the context needs a whole number, e.g. /set parameter num_ctx 8192")),
        };
    }
    let Some(parameter) = parameters::find(name) else {
        let names = parameters::names().join(", ");
        return Ok(term::note(&format!("there is no parameter {name:?}; there are {names}")));
    };
    match parameter.set(&mut chat.settings, value) {
        Ok(()) => term::aside(&format!("Set {}.", parameter.show(&chat.settings))),
        Err(why) => term::note(&format!("{why}: {}", parameter.help)),
    }
    Ok(())
}

/// `/show [WHAT]`.
fn show(chat: &Chat, what: &str) -> Result {
    let metadata = &chat.engine()?.model().checkpoint.metadata;
    let lines = match what.to_lowercase().as_str() {
        "" | "info" => {
            let count = chat.messages();
            let system = format!("System prompt: {}", chat.system.as_deref().unwrap_or("none"));
            format!("{}\n{count} messages in the conversation\n{system}", chat.describe()?)
        }
        "parameters" | "parameter" => PARAMETERS.iter().map(|p| p.show(&chat.settings)).collect::<Vec<_>>().join("\n"),
        "system" => system(chat),
        "template" => {
            metadata.get_str("tokenizer.chat_template")?.unwrap_or("The file has no chat template.").to_string()
        }
        "license" | "licence" => info::licence(metadata).unwrap_or_else(|| "The file states no license.".into()),
        other => format!("/show knows {}; not {other}", commands::SHOWN.join(", ")),
    };
    term::say(&term::printable(&lines));
    Ok(())
}
