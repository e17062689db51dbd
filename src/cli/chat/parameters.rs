//! The parameters that `/set parameter` changes, under the names of Ollama and of llama.cpp.

use super::commands::unquoted;
use crate::cli::settings::Settings;

pub struct Parameter {
    pub name: &'static str,
    /// What others call it.
    aliases: &'static [&'static str],
    pub help: &'static str,
    get: fn(&Settings) -> String,
    set: fn(&mut Settings, &str) -> Result<(), String>,
}

/// The names of the context's size. To change it, the model is loaded again.
pub const CONTEXT: [&str; 5] = ["num_ctx", "context", "ctx_size", "context_length", "n_ctx"];

macro_rules! number {
    ($name:literal, $aliases:expr, $help:literal, $field:ident) => {
        Parameter {
            name: $name,
            aliases: &$aliases,
            help: $help,
            get: |settings| settings.sampling.$field.to_string(),
            set: |settings, text| {
                settings.sampling.$field = text.parse().map_err(|_| not_a_number(text))?;
                Ok(())
            },
        }
    };
}

pub const PARAMETERS: [Parameter; 10] = [
    number!("temperature", ["temp"], "lower is more predictable; 0 always takes the most likely token", temperature),
    number!("top_k", [], "sample from the N most likely tokens; 0 for all", top_k),
    number!("top_p", [], "sample from the most likely tokens that together have this probability", top_p),
    number!("min_p", [], "ignore tokens less likely than this fraction of the most likely one", min_p),
    number!(
        "repeat_penalty",
        ["repetition_penalty"],
        "penalty on tokens that occurred before; 1 for none",
        repetition_penalty
    ),
    number!("frequency_penalty", [], "penalty for each time that a token was generated; 0 for none", frequency_penalty),
    number!("presence_penalty", [], "penalty on tokens that were generated; 0 for none", presence_penalty),
    number!("seed", [], "the same seed gives the same answer", seed),
    Parameter {
        name: "num_predict",
        aliases: &["max_tokens", "n_predict", "predict"],
        help: "longest answer in tokens; -1 for no limit",
        get: |settings| settings.max_tokens.map_or("-1".into(), |n| n.to_string()),
        set: |settings, text| {
            settings.max_tokens = match text.parse::<i64>() {
                Ok(..0) => None,
                Ok(0) => return Err("an answer has at least one token".into()),
                Ok(n) => usize::try_from(n).ok(),
                Err(_) => return Err(not_a_number(text)),
            };
            Ok(())
        },
    },
    Parameter {
        name: "stop",
        aliases: &[],
        help: "stop before this text; \"\" removes all such texts",
        get: |settings| format!("{:?}", settings.stop),
        set: |settings, text| {
            match unquoted(text) {
                "" => settings.stop.clear(),
                text => settings.stop.push(text.to_string()),
            }
            Ok(())
        },
    },
];

fn not_a_number(text: &str) -> String {
    format!("{text:?} is not a valid number")
}

/// The names, for completion.
pub fn names() -> Vec<&'static str> {
    PARAMETERS.iter().map(|parameter| parameter.name).chain([CONTEXT[0]]).collect()
}

/// The parameter of this name: `top_k`, `top-k`, `Top_K`.
pub fn find(name: &str) -> Option<&'static Parameter> {
    let name = normal(name);
    PARAMETERS.iter().find(|parameter| parameter.name == name || parameter.aliases.contains(&name.as_str()))
}

/// Whether a name is one of [`CONTEXT`].
pub fn is_context(name: &str) -> bool {
    CONTEXT.contains(&normal(name).as_str())
}

/// Whether something can be set under this name.
pub fn is_known(name: &str) -> bool {
    is_context(name) || find(name).is_some()
}

/// A name as the table has it.
fn normal(name: &str) -> String {
    name.trim_start_matches('-').replace('-', "_").to_lowercase()
}

impl Parameter {
    /// `top_k 40`.
    pub fn show(&self, settings: &Settings) -> String {
        format!("{} {}", self.name, (self.get)(settings))
    }

    /// Sets it. A value that makes no sense changes nothing.
    pub fn set(&self, settings: &mut Settings, value: &str) -> Result<(), String> {
        let before = settings.sampling.clone();
        (self.set)(settings, value)?;
        settings.sampling.check().map_err(|error| {
            settings.sampling = before;
            error.to_string()
        })
    }
}

#[cfg(test)]
mod tests {
    use firelight::conversation::ResponseFormat;
    use firelight::sampler::Sampling;

    use super::*;
    use crate::cli::answer::View;

    fn settings() -> Settings {
        let view = View { markdown: true, wrap: true };
        let (sampling, format) = (Sampling::default(), ResponseFormat::Text);
        Settings { sampling, stop: Vec::new(), max_tokens: None, think: None, format, view, stats: false }
    }

    #[test]
    fn parameters_have_the_names_of_other_programs() {
        let mut settings = settings();
        for (name, value, shown) in [
            ("temperature", "0.5", "temperature 0.5"),
            ("--temp", "0.7", "temperature 0.7"),
            ("Top-K", "3", "top_k 3"),
            ("repeat_penalty", "1.1", "repeat_penalty 1.1"),
            ("num_predict", "7", "num_predict 7"),
            ("n-predict", "-1", "num_predict -1"),
            ("seed", "42", "seed 42"),
            ("stop", "END", "stop [\"END\"]"),
            ("stop", "\"\"", "stop []"),
        ] {
            let parameter = find(name).unwrap();
            parameter.set(&mut settings, value).unwrap();
            assert_eq!(parameter.show(&settings), shown);
        }
        assert!(find("nonsense").is_none());
    }

    #[test]
    fn wrong_values_change_nothing() {
        let mut settings = settings();
        for (name, value) in
            [("temperature", "-1"), ("temperature", "hot"), ("top_k", "-3"), ("num_predict", "0"), ("seed", "x")]
        {
            let before = find(name).unwrap().show(&settings);
            assert!(find(name).unwrap().set(&mut settings, value).is_err(), "{name} {value}");
            assert_eq!(find(name).unwrap().show(&settings), before);
        }
    }
}
