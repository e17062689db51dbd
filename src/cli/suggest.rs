//! "Did you mean": the word of a list that was probably meant.

/// The words that differ from a mistyped one by a letter or two, or that begin with it, most similar first. Upper and
/// lower case are the same.
pub fn similar<'a>(typed: &str, words: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let typed = typed.to_lowercase();
    let far = (typed.chars().count() / 3).clamp(1, 2);
    let compare = |word: &'a str| {
        let lower = word.to_lowercase();
        let distance = distance(&typed, &lower);
        (distance <= far || typed.len() > 1 && lower.starts_with(&typed)).then_some((distance, word))
    };
    let mut found: Vec<(usize, &str)> = words.into_iter().filter_map(compare).collect();
    found.sort_by_key(|(distance, _)| *distance);
    found.into_iter().map(|(_, word)| word).collect()
}

/// How many letters must be added, removed, replaced or exchanged with their neighbour to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1);
            best = best.min(rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_words_are_recognised() {
        let words = ["run", "serve", "list", "devices", "quantize", "plan"];
        for (typed, meant) in
            [("rnu", "run"), ("RU", "run"), ("servr", "serve"), ("quantise", "quantize"), ("dev", "devices")]
        {
            assert_eq!(similar(typed, words), [meant], "{typed}");
        }
        for typed in ["frobnicate", "x", "", "models"] {
            assert!(similar(typed, words).is_empty(), "{typed}");
        }
    }
}
