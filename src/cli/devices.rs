//! `devices`: every adapter, what it can do, and why not more.

use std::io::{self, Write};

use firelight::Error;
use firelight::gpu::{Card, Gpu};

use super::{Result, term};

pub async fn run() -> Result {
    let cards = Gpu::list().await;
    if cards.is_empty() {
        let message = "no GPU adapter found: install a Vulkan driver (on Debian or Ubuntu without a GPU: \
                       mesa-vulkan-drivers), or unset WGPU_BACKEND";
        return Err(Error::Gpu(message.into()).into());
    }
    let mut out = io::stdout().lock();
    cards.iter().enumerate().try_for_each(|(i, card)| write!(out, "{i}  {}", describe(card)))?;
    Ok(())
}

fn describe(card: &Card) -> String {
    let caps = &card.caps;
    let mut lines = vec![term::printable(&card.name)];
    lines.push(term::printable(format!("{}, {}, driver {}", card.backend, card.kind, card.driver).trim()));
    if let Some(why) = &card.unusable {
        lines.push(format!("cannot be used: {why}"));
        return lines.join("\n   ") + "\n";
    }
    lines.push(match card.why_not_higher.as_str() {
        "" => format!("tier {}, the highest", caps.tier),
        why => format!("tier {}, not {why}", caps.tier),
    });
    lines.push("tier int8 only on request: it reads prompts with values rounded to 8 bits".to_string());
    let subgroups = match caps.subgroup {
        (0, 0) => String::new(),
        (min, max) if min == max => format!(", subgroups of {min}"),
        (min, max) => format!(", subgroups of {min} to {max}"),
    };
    let (binding, buffer) = (term::bytes(caps.max_binding), term::bytes(caps.max_buffer));
    lines.push(format!("one binding at most {binding}, one buffer at most {buffer}{subgroups}"));
    lines.push(format!("timestamps (for --profile): {}", if caps.timestamps { "yes" } else { "no" }));
    lines.join("\n   ") + "\n"
}
