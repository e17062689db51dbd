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
use super::{Result, info, tty};
use commands::{Input, SlashAction, first_word, unquoted};
use editor::{Line, LineEditor, file_name};
use parameters::PARAMETERS;
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
                term::note("press Ctrl-C again, or Ctrl-D, to end the chat");
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
        SlashAction::Help => term::say(&commands::help(rest, tty::columns().unwrap_or(80))),
        SlashAction::Clear => chat.clear(),
        SlashAction::Undo => chat.undo(),
        SlashAction::Regenerate => chat.regenerate().await?,
        SlashAction::Read if rest.is_empty() => term::note("/read needs a file, e.g. /read notes.txt"),
        SlashAction::Read => chat.read(&file_name(rest)),
        SlashAction::System if rest.is_empty() => term::say(system(chat)),
        SlashAction::System => set_system(chat, rest),
        SlashAction::Set => set(chat, editor, rest).await?,
        SlashAction::Show => term::say(&show(chat, rest)?),
        SlashAction::Model if rest.is_empty() => term::say(&chat.describe()?),
        SlashAction::Model => chat.change_model(&file_name(rest)).await?,
        SlashAction::Save if rest.is_empty() => term::note("/save needs a file, e.g. /save chat.json"),
        SlashAction::Save => chat.save(&file_name(rest)),
        SlashAction::Load if rest.is_empty() => term::note("/load needs a file, e.g. /load chat.json"),
        SlashAction::Load => chat.load(&file_name(rest)).await?,
        SlashAction::Seed if rest.is_empty() => term::note("/seed needs a whole number, e.g. /seed 42"),
        SlashAction::Seed => set_parameter(chat, "seed", rest).await?,
        SlashAction::Stats => term::say(&chat.stats()?),
    }
    Ok(())
}

fn system(chat: &Chat) -> &str {
    chat.system.as_deref().unwrap_or("No system prompt is set.")
}

fn set_system(chat: &mut Chat, text: &str) {
    let text = unquoted(text);
    chat.system = (!text.is_empty()).then(|| text.to_string());
    term::aside(if chat.system.is_some() { "System prompt set." } else { "System prompt removed." });
}

/// `/set NAME [VALUE]`.
async fn set(chat: &mut Chat, editor: &mut LineEditor, rest: &str) -> Result {
    let (name, value) = first_word(rest);
    let name = name.to_lowercase();
    match name.as_str() {
        "" => term::say(&commands::help("set", tty::columns().unwrap_or(80))),
        "parameter" => {
            let (name, value) = first_word(value);
            set_parameter(chat, name, value).await?;
        }
        "system" => set_system(chat, value),
        "format" => set_format(chat, if value.is_empty() { "json" } else { value })?,
        // `/set temperature 0.5`, too.
        _ if parameters::is_known(&name) => set_parameter(chat, &name, value).await?,
        _ => match switch(chat, editor, &name)? {
            Some(done) => term::aside(&done),
            None => term::note(&commands::unknown_setting(&name)),
        },
    }
    Ok(())
}

/// `/set NAME` of what is on or off. Returns what to say; `None` if there is no such setting.
fn switch(chat: &mut Chat, editor: &mut LineEditor, name: &str) -> Result<Option<String>> {
    let settings = &mut chat.settings;
    Ok(Some(match name {
        "think" | "nothink" => {
            settings.think = Some(name == "think");
            chat.settings.check_think(chat.engine()?.model())?;
            format!("Reasoning is {}.", if name == "think" { "on" } else { "off" })
        }
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
            editor.keeps_history = name == "history";
            format!("What you type is {}.", if editor.keeps_history { "kept for later chats" } else { "not kept" })
        }
        _ => return Ok(None),
    }))
}

/// `/set format FORMAT`. A format that no answer can have changes nothing.
fn set_format(chat: &mut Chat, text: &str) -> Result {
    let before = chat.settings.format.clone();
    let model = chat.engine()?.model().clone();
    let checked = response_format(text).and_then(|format| {
        chat.settings.format = format;
        chat.settings.check_format(&model)
    });
    match checked {
        Ok(()) => term::aside("Answers are JSON."),
        Err(failure) => {
            chat.settings.format = before;
            failure.print();
        }
    }
    Ok(())
}

async fn set_parameter(chat: &mut Chat, name: &str, value: &str) -> Result {
    if parameters::is_context(name) {
        match value.parse() {
            Ok(context) if context > 0 => chat.change_context(context).await?,
            _ => term::note("the context needs a whole number, e.g. /set parameter num_ctx 8192"),
        }
        return Ok(());
    }
    match parameters::find(name) {
        Some(parameter) => match parameter.set(&mut chat.settings, value) {
            Ok(()) => term::aside(&format!("Set {}.", parameter.show(&chat.settings))),
            Err(why) => term::note(&format!("{why}. {}: {}", parameter.name, parameter.help)),
        },
        None => {
            let names = parameters::names().join(", ");
            term::note(&format!("there is no parameter {name:?}; there are {names}"));
        }
    }
    Ok(())
}

/// `/show [WHAT]`.
fn show(chat: &Chat, what: &str) -> Result<String> {
    let checkpoint = &chat.engine()?.model().checkpoint;
    Ok(match what.to_lowercase().as_str() {
        "" | "info" => {
            let (facts, system) = (info::general(checkpoint)?, chat.system.as_deref().unwrap_or("none"));
            format!("{}\n{facts}{} in the conversation\nsystem prompt: {system}", chat.describe()?, chat.length())
        }
        "parameters" | "parameter" => PARAMETERS.iter().map(|p| p.show(&chat.settings)).collect::<Vec<_>>().join("\n"),
        "system" => system(chat).to_string(),
        "template" => {
            let template = checkpoint.metadata.get_str("tokenizer.chat_template")?;
            template.unwrap_or("The file has no chat template.").to_string()
        }
        "license" | "licence" => {
            info::licence(&checkpoint.metadata).unwrap_or_else(|| "The file states no license.".into())
        }
        other => format!("/show knows {}; not {other}", commands::SHOWN.join(", ")),
    })
}
