//! The text of answers: separates reasoning from the answer, and renders LaTeX as Unicode text.

use std::borrow::Cow;

/// An answer split into reasoning and answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerParts<'a> {
    /// The reasoning.
    pub reasoning: &'a str,
    /// Whether the reasoning is still open.
    pub thinking: bool,
    /// The answer.
    pub answer: &'a str,
}

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Splits reasoning from the answer. `opened`: the chat template ended with `<think>`.
pub fn split(text: &str, opened: bool) -> AnswerParts<'_> {
    let start = text.trim_start();
    let (opened, rest) = match start.strip_prefix(OPEN) {
        Some(rest) => (true, rest),
        None => (opened, start),
    };
    match rest.split_once(CLOSE) {
        // The prompt ended with the opening marker.
        Some((reasoning, answer)) if opened || !reasoning.contains(OPEN) => {
            AnswerParts { reasoning: reasoning.trim(), thinking: false, answer: answer.trim_start() }
        }
        _ if opened => AnswerParts { reasoning: rest.trim(), thinking: true, answer: "" },
        _ => AnswerParts { reasoning: "", thinking: false, answer: text },
    }
}

/// Adapts Markdown to the window's renderer: `\(x\)` and `\[x\]` become `$x$` and `$$x$$`, and fenced code gets the
/// language name that the highlighter expects. Code itself is unchanged.
pub fn prepare(markdown: &str) -> Cow<'_, str> {
    if !["```", "~~~", "\\(", "\\[", "$", "!["].iter().any(|mark| markdown.contains(mark)) {
        return Cow::Borrowed(markdown);
    }
    let mut out = String::with_capacity(markdown.len());
    let mut fenced = false;
    for line in markdown.split_inclusive('\n') {
        let start = line.trim_start();
        if start.starts_with("```") || start.starts_with("~~~") {
            fenced = !fenced;
            out += &if fenced { fence(line) } else { line.to_string() };
        } else if fenced {
            out += line;
        } else {
            out += &math_marks(line);
        }
    }
    Cow::Owned(out)
}

/// Language names that differ from the file extension.
const LANGUAGES: &[(&str, &str)] = &[
    ("rust", "rs"),
    ("python", "py"),
    ("python3", "py"),
    ("javascript", "js"),
    ("typescript", "js"),
    ("ts", "js"),
    ("jsx", "js"),
    ("tsx", "js"),
    ("bash", "sh"),
    ("shell", "sh"),
    ("zsh", "sh"),
    ("console", "sh"),
    ("c++", "cpp"),
    ("csharp", "cs"),
    ("c#", "cs"),
    ("golang", "go"),
    ("ruby", "rb"),
    ("haskell", "hs"),
    ("markdown", "md"),
    ("wgsl", "rs"),
    ("latex", "tex"),
];

fn fence(line: &str) -> String {
    let language = line.trim().trim_start_matches(['`', '~']).trim();
    match LANGUAGES.iter().find(|(name, _)| name.eq_ignore_ascii_case(language)) {
        Some((_, ending)) => line.replacen(language, ending, 1),
        None => line.to_string(),
    }
}

/// Marks mathematics in a line outside code, and turns images into links: they are not loaded.
fn math_marks(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for (i, part) in line.split('`').enumerate() {
        if i > 0 {
            out.push('`');
        }
        if i % 2 == 1 {
            out += part;
            continue;
        }
        let part = prices(&part.replace("![", "["));
        let part = part.replace("\\[", "$$").replace("\\]", "$$");
        out += &inline(&part);
    }
    out
}

/// Turns `\(x\)` into `$x$` where the mark is closed and holds mathematics: `\(x86\)` is a word in brackets.
fn inline(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("\\(") {
        out += before;
        let Some((tex, end)) = after.split_once("\\)") else {
            out += "\\(";
            rest = after;
            continue;
        };
        let tex = tex.trim();
        let word = tex.len() > 1 && tex.chars().all(|c| c.is_alphanumeric()) && tex.chars().any(char::is_alphabetic);
        out += &if word { format!("({tex})") } else { format!("${tex}$") };
        rest = end;
    }
    out + rest
}

/// Escapes the dollar of prices: a dollar before a digit, unless a formula ends later in the line as it began.
fn prices(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut open, mut before) = (false, ' ');
    let chars: Vec<char> = text.chars().collect();
    for (i, c) in chars.iter().copied().enumerate() {
        let digit = chars.get(i + 1).is_some_and(char::is_ascii_digit);
        if c == '$' && before != '\\' {
            let price = !open && digit && before != '$' && !closes(&chars[i + 1..]);
            if price {
                out.push('\\');
            } else {
                open = !open;
            }
        }
        out.push(c);
        before = c;
    }
    out
}

/// Whether a formula that begins here ends: at a dollar that follows no space and precedes no letter or digit.
fn closes(rest: &[char]) -> bool {
    let Some(at) = rest.iter().position(|c| *c == '$') else { return false };
    let after = rest.get(at + 1).is_some_and(|c| c.is_alphanumeric());
    at > 0 && !rest[at - 1].is_whitespace() && !after
}

/// Converts LaTeX to Unicode: Greek letters, operators, fractions, superscripts and subscripts. Unknown commands stay
/// readable.
pub fn latex(tex: &str) -> String {
    let mut chars = tex.trim().chars().peekable();
    let out = sequence(&mut chars, false, 0);
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = out.split('\n').map(line).filter(|line| !line.is_empty()).collect();
    lines.join("\n")
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Deeper groups stay unconverted, so that a model's output cannot overflow the stack.
const DEPTH: usize = 24;

/// Converts up to the end, or to the closing brace of a group.
fn sequence(chars: &mut Chars, group: bool, depth: usize) -> String {
    let mut out = String::new();
    while let Some(c) = chars.next() {
        match c {
            '}' if group => break,
            '{' => out += &nested(chars, depth),
            '^' => out += &raised(&argument(chars, depth), SUPER, '^'),
            '_' => out += &raised(&argument(chars, depth), SUB, '_'),
            '\\' => out += &command(chars, depth),
            '~' | '&' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn nested(chars: &mut Chars, depth: usize) -> String {
    if depth < DEPTH { sequence(chars, true, depth + 1) } else { "{".into() }
}

/// Converts a group, a command, or one character.
fn argument(chars: &mut Chars, depth: usize) -> String {
    while chars.peek().is_some_and(|c| c.is_whitespace()) {
        chars.next();
    }
    match chars.next() {
        Some('{') => nested(chars, depth),
        Some('\\') if depth < DEPTH => command(chars, depth + 1),
        Some(c) => c.to_string(),
        None => String::new(),
    }
}

fn command(chars: &mut Chars, depth: usize) -> String {
    let mut name = String::new();
    while let Some(c) = chars.peek().copied().filter(char::is_ascii_alphabetic) {
        name.push(c);
        chars.next();
    }
    if name.is_empty() {
        return match chars.next() {
            Some('\\') => "\n".into(),
            Some(',' | ';' | ':' | ' ') => " ".into(),
            Some('!') | None => String::new(),
            Some(c) => c.to_string(),
        };
    }
    match name.as_str() {
        "frac" | "dfrac" | "tfrac" => {
            let (above, below) = (argument(chars, depth), argument(chars, depth));
            format!("{}⁄{}", bracketed(&above), bracketed(&below))
        }
        "sqrt" => format!("√{}", bracketed(&argument(chars, depth))),
        "text" | "mathrm" | "mathbf" | "mathit" | "mathbb" | "mathcal" | "operatorname" | "textbf" | "boxed" => {
            argument(chars, depth)
        }
        "left" | "right" | "displaystyle" | "limits" | "big" | "Big" | "bigl" | "bigr" => String::new(),
        "begin" => environment(chars, depth),
        "end" => {
            argument(chars, depth);
            String::new()
        }
        "vec" => argument(chars, depth) + "\u{20d7}",
        "hat" => argument(chars, depth) + "\u{302}",
        "bar" | "overline" => argument(chars, depth) + "\u{304}",
        name => match SYMBOLS.iter().find(|(known, _)| *known == name) {
            Some((_, symbol)) => symbol.to_string(),
            None => format!("{name} "),
        },
    }
}

/// An environment. A matrix keeps its rows: `[a b; c d]`, as many programs write it; others keep their lines.
fn environment(chars: &mut Chars, depth: usize) -> String {
    let name = argument(chars, depth);
    let (open, close) = match name.trim_end_matches('*') {
        "matrix" | "smallmatrix" | "bmatrix" | "array" => ('[', ']'),
        "pmatrix" => ('(', ')'),
        "vmatrix" => ('|', '|'),
        "Bmatrix" => ('{', '}'),
        "cases" => ('{', ' '),
        _ => return String::new(),
    };
    if name == "array" {
        argument(chars, depth);
    }
    let mut body = String::new();
    while let Some(c) = chars.next() {
        body.push(c);
        if body.ends_with("\\end") {
            argument(chars, depth);
            body.truncate(body.len() - "\\end".len());
            break;
        }
    }
    let inner = if depth < DEPTH { sequence(&mut body.chars().peekable(), false, depth + 1) } else { body };
    let row = |row: &str| row.split_whitespace().collect::<Vec<_>>().join(" ");
    let rows: Vec<String> = inner.split('\n').map(row).filter(|row| !row.is_empty()).collect();
    format!("{open}{}{close}", rows.join("; "))
}

/// Parenthesizes a text of more than one term.
fn bracketed(text: &str) -> String {
    let text = text.trim();
    let one = text.chars().count() == 1 || text.chars().all(|c| c.is_ascii_digit());
    if one { text.to_string() } else { format!("({text})") }
}

fn raised(text: &str, table: &[(char, char)], mark: char) -> String {
    let letter = |c: char| table.iter().find(|(plain, _)| *plain == c).map(|(_, raised)| *raised);
    match text.trim().chars().map(letter).collect::<Option<String>>() {
        Some(all) => all,
        None => format!("{mark}{}", bracketed(text)),
    }
}

const SUPER: &[(char, char)] = &[
    ('0', '⁰'),
    ('1', '¹'),
    ('2', '²'),
    ('3', '³'),
    ('4', '⁴'),
    ('5', '⁵'),
    ('6', '⁶'),
    ('7', '⁷'),
    ('8', '⁸'),
    ('9', '⁹'),
    ('+', '⁺'),
    ('-', '⁻'),
    ('=', '⁼'),
    ('(', '⁽'),
    (')', '⁾'),
    ('n', 'ⁿ'),
    ('i', 'ⁱ'),
    ('T', 'ᵀ'),
    ('x', 'ˣ'),
    ('k', 'ᵏ'),
    ('m', 'ᵐ'),
    ('t', 'ᵗ'),
    ('′', '′'),
    ('∘', '°'),
];

const SUB: &[(char, char)] = &[
    ('0', '₀'),
    ('1', '₁'),
    ('2', '₂'),
    ('3', '₃'),
    ('4', '₄'),
    ('5', '₅'),
    ('6', '₆'),
    ('7', '₇'),
    ('8', '₈'),
    ('9', '₉'),
    ('+', '₊'),
    ('-', '₋'),
    ('=', '₌'),
    ('i', 'ᵢ'),
    ('j', 'ⱼ'),
    ('k', 'ₖ'),
    ('n', 'ₙ'),
    ('m', 'ₘ'),
    ('x', 'ₓ'),
    ('t', 'ₜ'),
    ('a', 'ₐ'),
    ('e', 'ₑ'),
    ('o', 'ₒ'),
    ('p', 'ₚ'),
    ('s', 'ₛ'),
];

const SYMBOLS: &[(&str, &str)] = &[
    ("alpha", "α"),
    ("beta", "β"),
    ("gamma", "γ"),
    ("delta", "δ"),
    ("epsilon", "ε"),
    ("varepsilon", "ε"),
    ("zeta", "ζ"),
    ("eta", "η"),
    ("theta", "θ"),
    ("iota", "ι"),
    ("kappa", "κ"),
    ("lambda", "λ"),
    ("mu", "μ"),
    ("nu", "ν"),
    ("xi", "ξ"),
    ("pi", "π"),
    ("rho", "ρ"),
    ("sigma", "σ"),
    ("tau", "τ"),
    ("phi", "φ"),
    ("varphi", "φ"),
    ("chi", "χ"),
    ("psi", "ψ"),
    ("omega", "ω"),
    ("Gamma", "Γ"),
    ("Delta", "Δ"),
    ("Theta", "Θ"),
    ("Lambda", "Λ"),
    ("Xi", "Ξ"),
    ("Pi", "Π"),
    ("Sigma", "Σ"),
    ("Phi", "Φ"),
    ("Psi", "Ψ"),
    ("Omega", "Ω"),
    ("times", "×"),
    ("cdot", "·"),
    ("div", "÷"),
    ("pm", "±"),
    ("mp", "∓"),
    ("leq", "≤"),
    ("le", "≤"),
    ("geq", "≥"),
    ("ge", "≥"),
    ("neq", "≠"),
    ("ne", "≠"),
    ("approx", "≈"),
    ("equiv", "≡"),
    ("sim", "∼"),
    ("propto", "∝"),
    ("infty", "∞"),
    ("sum", "∑"),
    ("prod", "∏"),
    ("int", "∫"),
    ("oint", "∮"),
    ("partial", "∂"),
    ("nabla", "∇"),
    ("forall", "∀"),
    ("exists", "∃"),
    ("in", "∈"),
    ("notin", "∉"),
    ("subset", "⊂"),
    ("subseteq", "⊆"),
    ("cup", "∪"),
    ("cap", "∩"),
    ("emptyset", "∅"),
    ("to", "→"),
    ("rightarrow", "→"),
    ("leftarrow", "←"),
    ("Rightarrow", "⇒"),
    ("Leftrightarrow", "⇔"),
    ("implies", "⇒"),
    ("iff", "⇔"),
    ("mapsto", "↦"),
    ("land", "∧"),
    ("wedge", "∧"),
    ("lor", "∨"),
    ("vee", "∨"),
    ("neg", "¬"),
    ("ldots", "…"),
    ("dots", "…"),
    ("cdots", "⋯"),
    ("circ", "∘"),
    ("prime", "′"),
    ("quad", "  "),
    ("qquad", "   "),
    ("langle", "⟨"),
    ("rangle", "⟩"),
    ("ell", "ℓ"),
    ("hbar", "ℏ"),
    ("lfloor", "⌊"),
    ("rfloor", "⌋"),
    ("lceil", "⌈"),
    ("rceil", "⌉"),
    ("mid", "|"),
    ("star", "⋆"),
    ("deg", "°"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasoning_is_split_from_the_answer() {
        let rows = [
            ("plain", false, ("", false, "plain")),
            ("<think>\nhm\n</think>\n\nYes", false, ("hm", false, "Yes")),
            ("<think>hm", false, ("hm", true, "")),
            ("hm, so", true, ("hm, so", true, "")),
            ("hm</think>Yes", true, ("hm", false, "Yes")),
            ("hm</think>Yes", false, ("hm", false, "Yes")),
            ("a <think> b", false, ("", false, "a <think> b")),
        ];
        for (text, opened, (reasoning, thinking, answer)) in rows {
            assert_eq!(split(text, opened), AnswerParts { reasoning, thinking, answer }, "{text}");
        }
    }

    #[test]
    fn latex_becomes_letters() {
        let rows = [
            (r"\alpha^2 + \beta_{10}", "α² + β₁₀"),
            (r"\frac{a+b}{2}", "(a+b)⁄2"),
            (r"\sqrt{x} \leq \infty", "√x ≤ ∞"),
            (r"e^{i\pi} = -1", "e^(iπ) = -1"),
            (r"\int_0^1 f(x)\,dx", "∫₀¹ f(x) dx"),
            (r"\int_0^\infty", "∫₀^∞"),
            (r"\left( \text{if } x \right)", "( if x )"),
            (r"\unknown{y", "unknown y"),
            (r"A = \begin{pmatrix} a & b \\ c & d \end{pmatrix} x", "A = (a b; c d) x"),
            (r"\begin{array}{cc} 1 & 2 \\ 3 & 4 \end{array}", "[1 2; 3 4]"),
            (r"\begin{aligned} x &= 1 \\ y &= 2 \end{aligned}", "x = 1\ny = 2"),
            (r"\begin{pmatrix} a", "(a)"),
        ];
        for (tex, letters) in rows {
            assert_eq!(latex(tex), letters, "{tex}");
        }
        latex(&"{".repeat(100_000));
        latex(&r"\frac".repeat(10_000));
        latex(&r"\begin{matrix}".repeat(2_000));
    }

    #[test]
    fn markdown_is_prepared_and_code_left_alone() {
        let rows = [
            ("plain *text*", "plain *text*"),
            ("a \\(x\\) `\\(y\\)`", "a $x$ `\\(y\\)`"),
            ("Costs $5 or $6 on \\(x86\\), \\(open", "Costs \\$5 or \\$6 on (x86), \\(open"),
            ("$2x$ and $$3$$ and $10", "$2x$ and $$3$$ and \\$10"),
            ("![a cat](cat.png)", "[a cat](cat.png)"),
            ("```\n\\[z\\]\n```\n\\[w\\]", "```\n\\[z\\]\n```\n$$w$$"),
            ("```Rust\nrust\n```\n", "```rs\nrust\n```\n"),
            ("~~~ toml\nx\n~~~", "~~~ toml\nx\n~~~"),
        ];
        for (markdown, prepared) in rows {
            assert_eq!(prepare(markdown), prepared);
        }
    }
}
