use super::*;

fn sampler(sampling: &Sampling) -> Sampler {
    Sampler::new(sampling, Defaults::default(), 1)
}

fn draws(sampling: &Sampling, logits: &[f32], mask: Option<&SimpleVob>) -> Vec<Token> {
    let mut sampler = sampler(sampling);
    (0..2_000).map(|_| sampler.sample(logits, mask, None).unwrap()).collect()
}

fn share(tokens: &[Token], token: Token) -> f64 {
    let hits = u32::try_from(tokens.iter().filter(|drawn| **drawn == token).count()).unwrap();
    f64::from(hits) / f64::from(u32::try_from(tokens.len()).unwrap())
}

#[test]
fn greedy_takes_the_likeliest_and_of_equals_the_first() {
    let mut greedy = sampler(&Sampling { temperature: Some(0.0), ..Sampling::default() });
    assert_eq!(greedy.sample(&[0.0, 3.0, 3.0, 1.0], None, None), Ok(1));
    assert_eq!(greedy.sample(&[0.0, 3.0, 3.0, 1.0], None, Some(1)), Ok(2));
}

#[test]
fn what_is_not_a_number_never_wins() {
    let mut greedy = sampler(&Sampling { temperature: Some(0.0), ..Sampling::default() });
    assert_eq!(greedy.sample(&[f32::NAN, -5.0, f32::NAN], None, None), Ok(1));
    assert_eq!(greedy.sample(&[f32::NAN, f32::NEG_INFINITY], None, None), Err(NothingPossible));
    let mut warm = sampler(&Sampling::default());
    assert_eq!(warm.sample(&[f32::INFINITY, 1.0, f32::NAN], None, None), Ok(0));
}

#[test]
fn the_mask_is_never_left() {
    let mask = SimpleVob::from_slice(&[false, true, false, true]);
    let tokens = draws(&Sampling::default(), &[9.0, 0.0, 9.0, 0.0], Some(&mask));
    assert!(tokens.iter().all(|token| [1, 3].contains(token)));
    let none = SimpleVob::from_slice(&[false, false, false, false]);
    let mut sampler = sampler(&Sampling::default());
    assert_eq!(sampler.sample(&[1.0; 4], Some(&none), None), Err(NothingPossible));
}

#[test]
fn draws_follow_the_distribution_and_the_seed() {
    let logits = [0.0, 1.0, 2.0];
    let tokens = draws(&Sampling::default(), &logits, None);
    assert!((share(&tokens, 2) - 0.665).abs() < 0.04, "{}", share(&tokens, 2));
    assert!((share(&tokens, 0) - 0.090).abs() < 0.03);
    assert_eq!(tokens, draws(&Sampling::default(), &logits, None));
    let other = Sampling { seed: Some(-7), ..Sampling::default() };
    assert_ne!(tokens, draws(&other, &logits, None));
}

#[test]
fn top_k_top_p_and_min_p_cut_the_tail() {
    let logits = [0.0, 1.0, 2.0, 3.0];
    let check = |sampling: Sampling, expected: &[Token]| {
        let mut tokens = draws(&sampling, &logits, None);
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens, expected);
    };
    check(Sampling { top_k: Some(2), ..Sampling::default() }, &[2, 3]);
    check(Sampling { top_p: Some(0.6), ..Sampling::default() }, &[3]);
    check(Sampling { top_p: Some(0.7), ..Sampling::default() }, &[2, 3]);
    check(Sampling { min_p: Some(0.3), ..Sampling::default() }, &[2, 3]);
    check(Sampling { top_p: Some(0.0), ..Sampling::default() }, &[3]);
    check(Sampling::default(), &[0, 1, 2, 3]);
}

#[test]
fn a_nucleus_wider_than_what_is_sorted_first_is_whole() {
    let logits = vec![0.0; FIRST_SORTED * 3];
    let tokens = draws(&Sampling { top_p: Some(0.9), ..Sampling::default() }, &logits, None);
    let last = tokens.iter().max().copied().unwrap();
    let (last, most) = (usize::try_from(last).unwrap(), FIRST_SORTED * 3 * 9 / 10);
    assert!(last > FIRST_SORTED && last <= most, "{last}");
}

#[test]
fn penalties_count_what_was_said() {
    let mut sampler = sampler(&Sampling {
        temperature: Some(0.0),
        frequency_penalty: 1.0,
        presence_penalty: 0.5,
        ..Sampling::default()
    });
    let logits = [2.0, 1.0];
    assert_eq!(sampler.sample(&logits, None, None), Ok(0));
    sampler.accept(0);
    assert_eq!(sampler.sample(&logits, None, None), Ok(1));
}
