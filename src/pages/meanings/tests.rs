//! Every label and every code has a row, with the numbers of the tables.

use super::*;

fn codes_of(label: Label) -> Vec<u64> {
    row(label)["codes"].as_array().unwrap().iter().map(|code| code.as_u64().unwrap()).collect()
}

#[test]
fn codes_and_statuses_are_those_of_the_tables() {
    let table: [(Label, &[u64], &[u64]); 9] = [
        (Label::BadRequest, &[], &[400, 426]),
        (Label::TokenExpired, &[4401], &[401]),
        (Label::UpstreamRefused, &[4401, 4403, 4404, 4429, 1014], &[401, 403, 404, 429, 502]),
        (Label::UpstreamTimeout, &[1013], &[504]),
        (Label::ClientViolation, &[1002, 1007, 1008, 1009], &[]),
        (Label::ClientLost, &[], &[]),
        (Label::UpstreamLost, &[1011], &[]),
        (Label::Kicked, &[4403], &[]),
        (Label::Drained, &[1012], &[]),
    ];
    for (label, codes, statuses) in table {
        assert_eq!(codes_of(label), codes, "{label}");
        assert_eq!(row(label)["statuses"], json!(statuses), "{label}");
    }
}

#[test]
fn every_refusal_and_every_ending_has_its_numbers() {
    let without_own_code = [Label::BadRequest, Label::ClientLost];
    for label in Label::ALL {
        let has_status = row(*label)["statuses"] != json!([]);
        let is_refusal = Label::refusals().any(|other| other == *label);
        assert_eq!(has_status, is_refusal || *label == Label::Internal, "{label}");
        assert_eq!(codes_of(*label).is_empty(), without_own_code.contains(label), "{label}");
    }
}

#[test]
fn every_code_that_is_ever_told_has_a_meaning() {
    let known: Vec<u64> = CODES.iter().map(|(code, _, _)| code.parse().unwrap()).collect();
    assert!(known.is_sorted());
    for label in Label::ALL {
        for code in codes_of(*label) {
            assert!(known.contains(&code), "{code} of {label}");
        }
    }
    // RFC 6455 section 7.4.1 and IANA; 1004 is reserved and means nothing.
    for code in (1000..=1015).filter(|code| *code != 1004) {
        assert!(known.contains(&code), "{code}");
    }
}
