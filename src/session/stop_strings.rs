//! Stop strings in text that comes piece by piece. Text that may begin a stop string is held back until it cannot.

use crate::text::partial_suffix;

/// The stop strings of an answer, and the text that is held back.
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
}

impl StopStrings {
    /// Empty strings stop nothing.
    pub fn new(mut stops: Vec<String>) -> Self {
        stops.retain(|stop| !stop.is_empty());
        StopStrings { stops, held: String::new() }
    }

    /// Takes the next piece. Returns the text that cannot belong to a stop string, and the stop string that was reached
    /// after it.
    pub fn push(&mut self, piece: &str) -> (String, Option<String>) {
        self.held.push_str(piece);
        let found = self.stops.iter().filter_map(|stop| Some((self.held.find(stop.as_str())?, stop)));
        if let Some((at, stop)) = found.min_by_key(|(at, _)| *at) {
            let stop = stop.clone();
            self.held.truncate(at);
            return (self.take_held(), Some(stop));
        }
        let keep = self.stops.iter().map(|stop| partial_suffix(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), None)
    }

    /// The text that is held back.
    pub fn take_held(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stop_string_ends_the_text_however_it_is_cut() {
        let stops = || StopStrings::new(vec![String::new(), "\n\nUser:".into(), "end".into(), "dot".into()]);
        let text = "ab\n\nUse endot";
        for at in 0..11 {
            let (mut stops, (a, b)) = (stops(), text.split_at(at));
            let (first, none) = stops.push(a);
            let (second, stop) = stops.push(b);
            assert_eq!((first + &second, none, stop), ("ab\n\nUse ".into(), None, Some("end".into())), "{at}");
        }
        let mut stops = stops();
        assert_eq!(stops.push("ab\n\nUs"), ("ab".into(), None));
        assert_eq!(stops.take_held(), "\n\nUs");
    }
}
