use storage::budgets::Origin;

use super::*;
use crate::identify::directory::ModelLimits;

fn known(vendor: &str, model: &str) -> ModelLimits {
    assert_eq!(vendor, "house");
    let known = model == "known";
    ModelLimits {
        context_tokens: known.then_some(1_000),
        output_tokens: known.then_some(100),
        ..ModelLimits::default()
    }
}

fn limits(target: &Target) -> (Option<u64>, Option<u64>) {
    (target.context_tokens, target.output_tokens_max)
}

#[test]
fn what_the_catalogue_does_not_say_of_a_model_is_asked_of_its_vendor() {
    let provider = ProviderInfo {
        name: "p".to_owned(),
        vendor: "house".to_owned(),
        limits: Some(known),
        ..ProviderInfo::default()
    };
    assert_eq!(limits(&target("p/known", "known", &provider, None)), (Some(1_000), Some(100)));
    assert_eq!(limits(&target("p/other", "other", &provider, None)), (None, None));
    let nobody = ProviderInfo { limits: None, ..provider.clone() };
    assert_eq!(limits(&target("p/known", "known", &nobody, None)), (None, None));
    let row = |output_tokens_max| Model {
        name: "p/known".to_owned(),
        provider: "p".to_owned(),
        upstream_model: "known".to_owned(),
        path: None,
        sha256: None,
        prices: Vec::new(),
        output_tokens_max,
        context_tokens: None,
        origin: Origin::File,
        version: 0,
        created_at: Timestamp(0),
    };
    let of_row = |row: &Model| limits(&plans_of(row, &provider)[0].1.targets[0]);
    assert_eq!(of_row(&row(None)), (Some(1_000), Some(100)));
    assert_eq!(of_row(&row(Some(7))), (Some(1_000), Some(7)), "the operator's word counts");
}
