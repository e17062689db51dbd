//! The commands of a chat: one table, from which lines are read, completed and explained.

use super::parameters::{self, CONTEXT, PARAMETERS};
use crate::cli::screen::wrap::fill;
use crate::cli::suggest::similar;

/// The action of a slash command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlashAction {
    Help,
    Quit,
    Clear,
    Undo,
    Regenerate,
    Read,
    System,
    Set,
    Show,
    Model,
    Save,
    Load,
    Seed,
    Stats,
}

/// What follows a command's name, for completion.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    Text,
    File,
    /// A word of [`SETTINGS`].
    Setting,
    /// A word of [`SHOWN`].
    Shown,
}

pub struct SlashCommand {
    pub action: SlashAction,
    /// The first one is completed; others have the names that users of other programs know.
    names: &'static [&'static str],
    pub argument: Argument,
    usage: &'static str,
    help: &'static str,
}

/// What can be set: words after `/set`, what follows them, and what they do.
const SETTINGS: [(&[&str], &str, &str); 8] = [
    (&["parameter"], "NAME VALUE", "one of the parameters below"),
    (&["system"], "TEXT", "the system prompt"),
    (&["think", "nothink"], "", "turn reasoning on or off, if the model supports it"),
    (&["format", "noformat"], "json|SCHEMA|@FILE", "answer in JSON, or in JSON of a schema"),
    (&["markdown", "nomarkdown"], "", "render Markdown, or show it as it is written"),
    (&["wordwrap", "nowordwrap"], "", "end lines between words, or anywhere"),
    (&["verbose", "quiet"], "", "print each answer's speed and seed, or nothing"),
    (&["history", "nohistory"], "", "keep what you type for later chats, or forget it"),
];

/// Words after `/show`.
pub const SHOWN: [&str; 5] = ["info", "parameters", "system", "template", "license"];

const fn command(
    action: SlashAction,
    names: &'static [&'static str],
    argument: Argument,
    usage: &'static str,
    help: &'static str,
) -> SlashCommand {
    SlashCommand { action, names, argument, usage, help }
}

pub const COMMANDS: [SlashCommand; 14] = [
    command(SlashAction::Help, &["?", "help"], Argument::Text, "[set]", "this list, or what can be set"),
    command(SlashAction::Quit, &["bye", "quit", "exit"], Argument::Text, "", "end the chat; so does Ctrl-D"),
    command(SlashAction::Clear, &["clear", "reset", "new"], Argument::Text, "", "forget the conversation"),
    command(SlashAction::Undo, &["undo"], Argument::Text, "", "remove your last message and its answer"),
    command(SlashAction::Regenerate, &["regen", "retry"], Argument::Text, "", "answer your last message again"),
    command(SlashAction::Read, &["read"], Argument::File, "FILE", "add a text file to your next message"),
    command(
        SlashAction::System,
        &["system"],
        Argument::Text,
        "[TEXT]",
        "set or show the system prompt; \"\" removes it",
    ),
    command(SlashAction::Set, &["set"], Argument::Setting, "NAME [VALUE]", "change a setting; /? set lists them"),
    command(
        SlashAction::Show,
        &["show", "info"],
        Argument::Shown,
        "[WHAT]",
        "the model, parameters, system, template or license",
    ),
    command(SlashAction::Model, &["model"], Argument::File, "[NAME]", "change the model, or show its name"),
    command(SlashAction::Save, &["save"], Argument::File, "FILE", "save the conversation as JSON"),
    command(SlashAction::Load, &["load"], Argument::File, "FILE", "load a saved conversation, or a model"),
    command(SlashAction::Seed, &["seed"], Argument::Text, "N", "use this random seed from now on"),
    command(
        SlashAction::Stats,
        &["stats"],
        Argument::Text,
        "",
        "the speed of the last answer, and how full the context is",
    ),
];

impl SlashCommand {
    /// `/clear`.
    pub fn name(&self) -> String {
        format!("/{}", self.names[0])
    }
}

/// A parsed line of input.
#[derive(Debug, PartialEq)]
pub enum Input<'a> {
    Nothing,
    Command(SlashAction, &'a str),
    /// A command that does not exist. It is not sent to the model: it is a mistyped one.
    Unknown(&'a str),
    Message,
}

impl<'a> Input<'a> {
    /// Reads a line. A path (`/etc/hosts`) or a comment (`//`) is a message, although it begins with a slash.
    pub fn parse(line: &'a str) -> Self {
        let line = line.trim();
        let (first, rest) = first_word(line);
        match first.strip_prefix('/') {
            _ if line.is_empty() => Input::Nothing,
            Some(name) if !name.contains('/') => {
                let name = name.to_lowercase();
                match COMMANDS.iter().find(|command| command.names.contains(&name.as_str())) {
                    Some(command) => Input::Command(command.action, rest),
                    None => Input::Unknown(first),
                }
            }
            _ => Input::Message,
        }
    }
}

/// The first word of a text, and what follows it.
pub fn first_word(text: &str) -> (&str, &str) {
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (first, rest.trim())
}

/// A text without the quotes around it.
pub fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

/// What to say about an unknown command.
pub fn unknown(command: &str) -> String {
    let names = COMMANDS.iter().flat_map(|command| command.names);
    match similar(command.trim_start_matches('/'), names.copied()).first() {
        Some(name) => format!("unknown command {command}: did you mean /{name}?"),
        None => format!("unknown command {command}: try /?"),
    }
}

/// What to say about an unknown setting.
pub fn unknown_setting(name: &str) -> String {
    let settings = SETTINGS.iter().flat_map(|(names, ..)| *names).copied();
    match similar(name, settings.chain(parameters::names())).first() {
        Some(meant) => format!("there is no setting {name}: did you mean /set {meant}?"),
        None => format!("there is no setting {name}; /? set lists them"),
    }
}

/// Completions of a line's last word, and where that begins. Files are completed elsewhere.
pub fn complete(line: &str) -> (usize, Vec<String>) {
    let start = line.rfind(' ').map_or(0, |at| at + 1);
    let (before, typed) = (line[..start].trim(), line[start..].to_lowercase());
    let fitting = |words: &[&str]| {
        let words = words.iter().filter(|word| word.starts_with(&typed));
        words.map(|word| format!("{word} ")).collect::<Vec<_>>()
    };
    let words = match before.to_lowercase().as_str() {
        "" => {
            let names = COMMANDS.iter().map(SlashCommand::name).filter(|name| name.starts_with(&typed));
            names.map(|name| name + " ").filter(|_| typed.starts_with('/')).collect()
        }
        "/set parameter" => fitting(&parameters::names()),
        first => match find(first).map(|command| command.argument) {
            Some(Argument::Setting) => {
                fitting(&SETTINGS.iter().flat_map(|(names, ..)| *names).copied().collect::<Vec<_>>())
            }
            Some(Argument::Shown) => fitting(&SHOWN),
            _ => Vec::new(),
        },
    };
    (start, words)
}

/// Whether a file's name is typed.
pub fn takes_file(line: &str) -> bool {
    let name = line.split_once(' ').map_or("", |(name, _)| name);
    find(&name.to_lowercase()).is_some_and(|command| command.argument == Argument::File)
}

fn find(name: &str) -> Option<&'static SlashCommand> {
    let name = name.strip_prefix('/')?;
    COMMANDS.iter().find(|command| command.names.contains(&name))
}

/// Names and what they mean, side by side or, on a narrow terminal, below one another.
fn table(rows: &[(String, String)], columns: usize) -> String {
    const NARROWEST: usize = 30;
    let widest = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let beside = columns >= widest + 2 + NARROWEST;
    let indent = " ".repeat(if beside { widest + 2 } else { 4 });
    let row = |(name, what): &(String, String)| {
        let what = fill(what, columns.saturating_sub(indent.len())).replace('\n', &format!("\n{indent}"));
        match beside {
            true => format!("{name:<widest$}  {what}\n"),
            false => format!("{name}\n{indent}{what}\n"),
        }
    };
    rows.iter().map(row).collect()
}

/// The list of commands, or with `set` of what can be set.
pub fn help(of: &str, columns: usize) -> String {
    if of.eq_ignore_ascii_case("set") {
        let setting = |(names, usage, what): &(&[&str], &str, &str)| {
            (format!("/set {} {usage}", names.join(", ")).trim_end().to_string(), what.to_string())
        };
        let settings: Vec<_> = SETTINGS.iter().map(setting).collect();
        let parameters = PARAMETERS.iter().map(|p| (format!("  {}", p.name), p.help.to_string()));
        let context = (format!("  {}", CONTEXT[0]), "context size in tokens; loads the model again".to_string());
        let parameters: Vec<_> = parameters.chain([context]).collect();
        return table(&settings, columns) + "\nParameters:\n" + table(&parameters, columns).trim_end();
    }
    let row = |command: &SlashCommand| {
        let others: Vec<String> = command.names[1..].iter().map(|name| format!("/{name}")).collect();
        let what = match others.is_empty() {
            true => command.help.to_string(),
            false => format!("{} (also {})", command.help, others.join(", ")),
        };
        (format!("{} {}", command.name(), command.usage).trim_end().to_string(), what)
    };
    let end = "End a line with \\ to continue on the next one, or put several lines between \"\"\" marks. Ctrl-C stops an \
               answer.";
    let commands: Vec<_> = COMMANDS.iter().map(row).collect();
    table(&commands, columns) + &fill(end, columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_or_commands() {
        assert_eq!(Input::parse("  "), Input::Nothing);
        assert_eq!(Input::parse("/bye"), Input::Command(SlashAction::Quit, ""));
        assert_eq!(Input::parse("/system  Be brief. "), Input::Command(SlashAction::System, "Be brief."));
        assert_eq!(Input::parse("/etc/passwd is what?"), Input::Message);
        assert_eq!(Input::parse("// a comment"), Input::Message);
        assert_eq!(Input::parse("hello /quit"), Input::Message);
    }

    /// Names of Ollama's and llama.cpp's commands, in any case.
    #[test]
    fn commands_of_other_programs_are_known() {
        for name in [
            "?", "help", "Help", "bye", "exit", "quit", "clear", "CLEAR", "reset", "set", "show", "load", "save",
            "regen", "read",
        ] {
            assert!(matches!(Input::parse(&format!("/{name} x")), Input::Command(_, "x")), "{name}");
        }
    }

    #[test]
    fn unknown_commands_are_no_messages() {
        for line in ["/claer", "/wrong now", "/", "/5", "/set-x", "/é"] {
            assert!(matches!(Input::parse(line), Input::Unknown(_)), "{line}");
        }
        assert_eq!(unknown("/claer"), "unknown command /claer: did you mean /clear?");
        assert_eq!(unknown("/frobnicate"), "unknown command /frobnicate: try /?");
        assert_eq!(unknown_setting("temprature"), "there is no setting temprature: did you mean /set temperature?");
        assert_eq!(unknown_setting("nonsense"), "there is no setting nonsense; /? set lists them");
    }

    #[test]
    fn names_are_unique_and_explained() {
        let mut names: Vec<&str> = COMMANDS.iter().flat_map(|command| command.names).copied().collect();
        let help = help("", 80);
        assert!(names.iter().all(|name| help.contains(&format!("/{name}"))), "{help}");
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), COMMANDS.iter().map(|command| command.names.len()).sum::<usize>());
        let help = super::help("set", 80);
        assert!(SETTINGS.iter().all(|(names, ..)| names.iter().all(|name| help.contains(name))), "{help}");
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
        let narrow = super::help("", 20);
        assert!(narrow.lines().all(|line| line.len() <= 20), "{narrow}");
    }

    #[test]
    fn completion_knows_commands_settings_and_parameters() {
        let of = |line: &str| complete(line).1.join("");
        assert_eq!(of("/s"), "/system /set /show /save /seed /stats ");
        assert_eq!(complete("/set th"), (5, vec!["think ".to_string()]));
        assert_eq!(complete("/set parameter temp"), (15, vec!["temperature ".to_string()]));
        assert_eq!(of("/show te"), "template ");
        assert_eq!(of("hello"), "");
        assert!(takes_file("/load x") && !takes_file("/load") && !takes_file("/show x"));
    }
}
