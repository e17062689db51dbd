//! The CPU sampler: each filter and penalty on handmade logits, sampling frequencies, seeds, invalid numbers.

use firelight::ops::sample::gumbel;
use firelight::sampler::{IN_PROMPT, Sampling, sample};

/// Sampling at temperature 1, without filters.
fn plain() -> Sampling {
    Sampling::default().temperature(1.0).top_k(0).top_p(1.0).min_p(0.0)
}

fn greedy() -> Sampling {
    plain().temperature(0.0)
}

fn logits(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln() + 3.0).collect()
}

/// The distinct tokens of many samples.
fn drawn(s: &Sampling, logits: &[f32], draws: u32) -> Vec<u32> {
    let mut tokens: Vec<u32> = (0..draws).map(|position| sample(s, logits, &[], position).token).collect();
    tokens.sort();
    tokens.dedup();
    tokens
}

#[test]
fn filters_keep_exactly_their_tokens() {
    let four = logits(&[0.1, 0.4, 0.2, 0.3]);
    let ties = logits(&[0.2; 5]);
    let flat = vec![1.0; 3000];
    let first = |n: u32| (0..n).collect::<Vec<u32>>();
    let rows: Vec<(&str, Sampling, &[f32], Vec<u32>)> = vec![
        ("no filter", plain(), &four, first(4)),
        ("top-k 1", plain().top_k(1), &four, vec![1]),
        ("top-k 2", plain().top_k(2), &four, vec![1, 3]),
        ("top-k 3", plain().top_k(3), &four, vec![1, 2, 3]),
        ("top-k beyond the vocabulary", plain().top_k(9), &four, first(4)),
        ("top-k among ties takes the lowest ids", plain().top_k(3), &ties, first(3)),
        ("top-p 0 keeps the best", plain().top_p(0.0), &four, vec![1]),
        ("top-p 0.39", plain().top_p(0.39), &four, vec![1]),
        ("top-p 0.41", plain().top_p(0.41), &four, vec![1, 3]),
        ("top-p 0.71", plain().top_p(0.71), &four, vec![1, 2, 3]),
        ("top-p 0.91", plain().top_p(0.91), &four, first(4)),
        // 0.4 < 0.5 alone, but 0.4 / 0.7 > 0.5.
        ("top-p 0.5", plain().top_p(0.5), &four, vec![1, 3]),
        ("top-p after top-k", plain().top_p(0.5).top_k(2), &four, vec![1]),
        ("min-p 0.49", plain().min_p(0.49), &four, vec![1, 2, 3]),
        ("min-p 0.51", plain().min_p(0.51), &four, vec![1, 3]),
        ("min-p 1 keeps ties with the best", plain().min_p(1.0), &ties, first(5)),
        // Among the tokens that min-p keeps, the best has 0.4 / 0.7 = 0.57 > 0.5; but top-p is applied first and keeps
        // two.
        ("min-p after top-p", plain().min_p(0.51).top_p(0.5), &four, vec![1, 3]),
        // Top-k keeps 0.4, 0.3 and 0.2 (of 0.9): the first two have 0.78.
        ("all three", plain().top_k(3).top_p(0.77).min_p(0.1), &four, vec![1, 3]),
        // Temperature 2 makes the ratio to the best sqrt(0.5) = 0.707, sqrt(0.75) = 0.866 and 0.5.
        ("filters see the temperature", plain().temperature(2.0).min_p(0.6), &four, vec![1, 2, 3]),
        ("greedy has no filters", greedy().top_k(3), &four, vec![1]),
        ("a filter keeps at most 1024", plain().top_p(0.999), &flat, first(1024)),
        ("and a large top-k no more", plain().top_k(2000), &flat, first(1024)),
    ];
    for (name, s, logits, want) in rows {
        s.check().unwrap();
        // With 3 samples per token, one token in 20 does not occur.
        let draws = 1000.max(3 * want.len() as u32);
        let got = drawn(&s, logits, draws);
        if want.len() < 10 {
            assert_eq!(got, want, "{name}");
        } else {
            let few = want.len() * 9 / 10;
            assert!(got.iter().all(|t| want.contains(t)) && got.len() > few, "{name}: {} tokens", got.len());
        }
    }
}

/// Pearson's statistic of counts against probabilities.
fn chi_square(counts: &[u32], probabilities: &[f64]) -> f64 {
    let n: u32 = counts.iter().sum();
    let term = |(c, p): (&u32, &f64)| (f64::from(*c) - p * f64::from(n)).powi(2) / (p * f64::from(n));
    counts.iter().zip(probabilities).map(term).sum()
}

#[test]
fn samples_follow_the_softmax() {
    let logits: Vec<f32> = (0..24).map(|i| (i as f32 * 1.7).sin() * 2.0).collect();
    let softmax = |temperature: f32, keep: &dyn Fn(usize) -> bool| {
        let weight = |i: usize| if keep(i) { f64::from(logits[i] / temperature).exp() } else { 0.0 };
        let total: f64 = (0..24).map(weight).sum();
        (0..24).map(|i| weight(i) / total).collect::<Vec<f64>>()
    };
    // Over positions with one seed, over seeds at one position, and in the high word of the seed.
    let ways: [fn(u32) -> (u64, u32); 3] = [|i| (7, i), |i| (i.into(), 3), |i| (u64::from(i) << 32, 0)];
    for temperature in [0.5, 1.0, 1.5] {
        for filtered in [false, true] {
            // A min-p this small keeps all tokens, but takes the code path of the filters.
            let base = plain().temperature(temperature).min_p(if filtered { 1e-9 } else { 0.0 });
            for way in ways {
                let mut counts = [0; 24];
                for i in 0..20_000 {
                    let (seed, position) = way(i);
                    counts[sample(&base.clone().seed(seed), &logits, &[], position).token as usize] += 1;
                }
                // 23 degrees of freedom: above 60 once in 30,000.
                let got = chi_square(&counts, &softmax(temperature, &|_| true));
                assert!(got < 60.0, "temperature {temperature}: chi-square {got}, {counts:?}");
                let wrong = chi_square(&counts, &softmax(temperature * 1.1, &|_| true));
                assert!(wrong > 60.0, "the test would not detect another temperature: {wrong}");
            }
        }
    }
}

#[test]
fn rare_tokens_have_the_right_frequency() {
    // 4096 tokens share 1 % against one with 99 %.
    let n = 4096;
    let mut logits = vec![(0.01 / n as f32).ln(); n];
    logits.push(0.99f32.ln());
    let rare = (0..3000).filter(|p| sample(&plain(), &logits, &[], *p).token < n as u32).count();
    // 30 expected, deviation 5.4.
    assert!((8..=57).contains(&rare), "{rare}");
    // The tail, with the largest of 150,000 values: 66.8 of 4 million are above 11, deviation 8.2.
    let far = (0..4_000_000).filter(|i| gumbel([1, 2], 3, *i) > 11.0).count();
    assert!((30..=105).contains(&far), "{far}");
}

#[test]
fn samples_depend_on_seed_and_position() {
    let logits: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin()).collect();
    let text = |seed| (0..50).map(|p| sample(&plain().seed(seed), &logits, &[], p).token).collect::<Vec<_>>();
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2));
    assert_ne!(text(1), text(1 + (1 << 32)));
    // Recorded, because a change of the sampler would change the answers of existing seeds.
    assert_eq!(text(42)[..8], [451, 377, 751, 580, 52, 868, 717, 601]);
}

#[test]
fn noise_is_a_gumbel_variable() {
    let n = 200_000u32;
    let values: Vec<f64> = (0..n).map(|i| gumbel([5, 6], 7, i).into()).collect();
    let mean = values.iter().sum::<f64>() / f64::from(n);
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / f64::from(n);
    // Euler's constant and pi^2 / 6; the deviations of these estimates are 0.003 and 0.008.
    assert!((mean - 0.57722).abs() < 0.015, "{mean}");
    assert!((variance - 1.64493).abs() < 0.04, "{variance}");
    // P(G <= g) = exp(-exp(-g)).
    for g in [-1.5f64, -1.0, 0.0, 1.0, 2.0, 4.0, 7.0] {
        let want = (-(-g).exp()).exp();
        let got = values.iter().filter(|v| **v <= g).count() as f64 / f64::from(n);
        let deviation = (want * (1.0 - want) / f64::from(n)).sqrt();
        assert!((got - want).abs() < 5.0 * deviation, "P(G <= {g}) is {got}, not {want}");
    }
    assert!(values.iter().all(|v| (-2.9..22.3).contains(v)));
}

#[test]
fn penalties_and_bias() {
    let seen = [IN_PROMPT, 2, IN_PROMPT + 1, 0];
    // The logits after penalties are computed by hand; greedy sampling shows which is largest.
    let rows: Vec<(&str, Sampling, [f32; 4], u32)> = vec![
        ("repetition penalty divides positive logits", greedy().repetition_penalty(2.0), [4.0, 1.0, 1.0, 2.1], 3),
        ("a divided logit can still be the largest", greedy().repetition_penalty(2.0), [4.4, 1.0, 1.0, 2.1], 0),
        ("a repeated token is penalized once", greedy().repetition_penalty(2.0), [0.0, 4.4, 0.0, 2.1], 1),
        ("it multiplies negative logits", greedy().repetition_penalty(2.0), [-1.0, -9.0, -9.0, -1.9], 3),
        ("below 1 it favours repetition", greedy().repetition_penalty(0.5), [1.1, 0.0, 0.0, 2.1], 0),
        ("frequency penalty ignores the prompt", greedy().frequency_penalty(1.0), [2.2, 4.0, 3.0, 2.1], 0),
        ("frequency penalty of one occurrence", greedy().frequency_penalty(1.0), [0.0, 4.2, 3.0, 2.1], 1),
        ("frequency penalty of two occurrences", greedy().frequency_penalty(1.0), [0.0, 4.0, 3.05, 2.1], 3),
        ("presence penalty applies once", greedy().presence_penalty(1.0), [0.0, 3.2, 3.1, 2.1], 1),
        ("presence penalty ignores the prompt", greedy().presence_penalty(1.0), [2.2, 3.1, 3.1, 2.1], 0),
        ("off", greedy(), [2.0, 2.2, 2.1, 2.1], 1),
        ("bias", greedy().logit_bias(vec![(3, 1.0), (77, 9.0)]), [2.0, 2.2, 2.1, 1.3], 3),
        (
            "bias comes after penalties",
            greedy().logit_bias(vec![(0, 1.0)]).repetition_penalty(2.0),
            [4.0, 0.0, 0.0, 2.9],
            0,
        ),
    ];
    for (name, s, logits, want) in rows {
        s.check().unwrap();
        assert_eq!(sample(&s, &logits, &seen, 0).token, want, "{name}");
    }
}

#[test]
fn log_probabilities_ignore_sampling_settings() {
    let s = plain().logprobs(3).logit_bias(vec![(2, 100.0)]).temperature(0.3).top_k(2);
    let four = logits(&[0.1, 0.4, 0.2, 0.3]);
    let choice = sample(&s, &four, &[], 0);
    assert_eq!(choice.token, 2);
    assert!((choice.logprobs.logprob - 0.2f32.ln()).abs() < 1e-6);
    assert_eq!(choice.logprobs.top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 3, 2]);
    for ((_, got), p) in choice.logprobs.top.iter().zip([0.4f32, 0.3, 0.2]) {
        assert!((got - p.ln()).abs() < 1e-6);
    }
    let all = sample(&plain().logprobs(20), &[1.0, 1.0], &[], 0);
    assert_eq!(all.logprobs.top.iter().map(|t| t.0).collect::<Vec<_>>(), [0, 1]);
    assert!(sample(&plain(), &four, &[], 0).logprobs.top.is_empty());
}

#[test]
fn hostile_logits_do_not_panic() {
    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;
    let rows: [(&[f32], u32); 7] = [
        (&[NAN, 1.0, NAN], 1),
        (&[-INF, -INF, -50.0], 2),
        (&[NAN, NAN], 0),
        (&[-INF, -INF], 0),
        (&[0.0, INF, f32::MAX], 1),
        (&[f32::MIN, NAN, -f32::MIN_POSITIVE], 2),
        (&[-3.0], 0),
    ];
    let all = plain().top_k(2).top_p(0.5).min_p(0.1).repetition_penalty(1.0);
    for (logits, want) in rows {
        for s in [greedy(), plain(), all.clone(), plain().temperature(100.0).repetition_penalty(100.0)] {
            let choice = sample(&s, logits, &[u32::MAX; 3], 0);
            assert!((choice.token as usize) < logits.len() && !choice.logprobs.logprob.is_nan(), "{s:?} {logits:?}");
            if s == greedy() {
                assert_eq!(choice.token, want, "{logits:?}");
            }
        }
    }
}

#[test]
fn errors_name_settings_out_of_range() {
    let nan = f32::NAN;
    let rows = [
        ("temperature is -1", plain().temperature(-1.0)),
        ("temperature is NaN", plain().temperature(nan)),
        ("temperature is inf", plain().temperature(f32::INFINITY)),
        ("top_p is 1.5", plain().top_p(1.5)),
        ("top_p is NaN", plain().top_p(nan)),
        ("min_p is -0.1", plain().min_p(-0.1)),
        ("repetition_penalty is 0;", plain().repetition_penalty(0.0)),
        ("frequency_penalty is NaN", plain().frequency_penalty(nan)),
        ("presence_penalty is -1000;", plain().presence_penalty(-1000.0)),
        ("logit_bias of token 4 is NaN", plain().logit_bias(vec![(3, 0.0), (4, nan)])),
    ];
    for (want, s) in rows {
        let error = s.check().unwrap_err().to_string();
        assert!(error.starts_with(want) || error.starts_with(&format!("the {want}")), "{error}");
    }
    for s in [plain(), greedy(), Sampling::default(), Sampling::greedy()] {
        s.check().unwrap();
    }
}

#[test]
fn settings_missing_in_json_have_defaults() {
    let s: Sampling = serde_json::from_str(r#"{"temperature": 0.5, "logit_bias": [[3, -1.5]]}"#).unwrap();
    assert_eq!(s, Sampling::default().temperature(0.5).logit_bias(vec![(3, -1.5)]));
    assert_eq!(serde_json::from_str::<Sampling>(&serde_json::to_string(&s).unwrap()).unwrap(), s);
}
