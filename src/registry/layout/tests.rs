//! Literal nodes of both layouts, and rubbish in each of them.

use std::time::Duration;

use super::*;
use crate::model::{Access, Encoding, Policy, Quota, State};

fn user() -> ServiceName {
    ServiceName::new("user").unwrap()
}

fn nodes(all: &[(&str, &str)]) -> Vec<Node> {
    let node = |(path, data): &(&str, &str)| Node {
        path: (*path).to_owned(),
        data: Ok(data.as_bytes().to_vec()),
        ephemeral: path.contains(':'),
    };
    all.iter().map(node).collect()
}

const FLAT: [(&str, &str); 6] = [
    ("/service/user", r#"{"state":"on","owner":"us","access":"open","policy":{"timeout":"2s"},"x":1}"#),
    ("/address/user", r#"{"addresses":[{"address":"10.0.0.5:80","weight":7},{"address":"10.0.0.6:80"}]}"#),
    ("/address/user/10.0.0.5:80", r#"{"weight":100,"idc":"bj1"}"#),
    ("/address/user/10.0.0.7:80", ""),
    ("/api/user/get", r#"{"path":"/user/get","method":"get","params":["id"]}"#),
    ("/access/user/web", r#"{"apis":["get"],"keys":[]}"#),
];

const TREE: [(&str, &str); 4] = [
    ("/services/user", r#"{"contextPath":"/u","access":"key"}"#),
    ("/services/user/get", r#"{"path":"/get","encoding":"yar-msgpack","state":"drain"}"#),
    ("/services/user/get/providers/10.0.0.5:80", r#"{"weight":3,"state":"off"}"#),
    ("/services/user/get/access/web", "{}"),
];

#[test]
fn flat_is_read_and_what_a_person_wrote_in_the_list_wins() {
    let service = Layout::Flat.parse(&user(), &nodes(&FLAT), None).unwrap();
    assert!(service.skipped.is_empty(), "{:?}", service.skipped);
    assert_eq!(service.policy.over(&Policy::default()).timeout, Duration::from_secs(2));
    let mut seen: Vec<_> =
        service.providers.iter().map(|p| (p.address.as_str(), p.weight, p.idc.as_deref())).collect();
    seen.sort_unstable();
    let wanted = [("10.0.0.5:80", 7, Some("bj1")), ("10.0.0.6:80", 100, None), ("10.0.0.7:80", 100, None)];
    assert_eq!(seen, wanted);
    let get = &service.apis["get"];
    assert_eq!((get.path.as_str(), get.method.as_deref()), ("/user/get", Some("GET")));
    assert_eq!((get.encoding, &get.params), (Encoding::Json, &vec!["id".to_owned()]));
    assert_eq!(service.callers["web"][0].apis, ["get"]);
}

#[test]
fn tree_joins_the_paths_and_gives_each_api_its_own_providers() {
    let service = Layout::Tree.parse(&user(), &nodes(&TREE), None).unwrap();
    assert!(service.skipped.is_empty(), "{:?}", service.skipped);
    let get = &service.apis["get"];
    assert_eq!((get.path.as_str(), get.encoding, get.state), ("/u/get", Encoding::YarMsgpack, State::Drain));
    let own = get.providers.as_ref().unwrap();
    assert_eq!((own[0].address.as_str(), own[0].weight, own[0].state), ("10.0.0.5:80", 3, State::Off));
    assert_eq!(service.callers["web"][0].apis, ["get"], "a grant below one api is for that api");
}

#[test]
fn a_service_exists_when_any_of_its_nodes_does() {
    assert_eq!(Layout::Flat.parse(&user(), &[], None), None);
    for node in FLAT {
        assert!(Layout::Flat.parse(&user(), &nodes(&[node]), None).is_some(), "{node:?}");
    }
}

#[test]
fn rubbish_in_one_node_is_shown_and_takes_no_other_down() {
    let big = format!("{{\"x\":\"{}\"}}", "x".repeat(70_000));
    let rubbish = ["{", "[]", "7", "\u{0}", "nul", "{\"state\":\"maybe\",\"apis\":7,\"addresses\":{}}", &big];
    for (layout, all) in [(Layout::Flat, &FLAT[..]), (Layout::Tree, &TREE[..])] {
        for broken in 0..all.len() {
            for data in rubbish {
                let mut some = all.to_vec();
                some[broken].1 = data;
                let service = layout.parse(&user(), &nodes(&some), None).unwrap();
                let shown: Vec<_> = service.skipped.iter().map(|skipped| skipped.path.as_str()).collect();
                let start: String = data.chars().take(20).collect();
                assert!(
                    shown.iter().any(|path| path.starts_with(all[broken].0)),
                    "{}: {start}: {shown:?}",
                    all[broken].0
                );
                some.remove(broken);
                let rest = layout.parse(&user(), &nodes(&some), None).unwrap();
                let parts = |mut s: Service| {
                    s.callers.retain(|_, grants| grants.iter().any(|grant| grant.state == State::On));
                    (s.apis, s.providers, s.callers)
                };
                assert_eq!(parts(service), parts(rest), "{}: {start}", all[broken].0);
            }
        }
    }
}

#[test]
fn a_slip_in_the_list_keeps_the_addresses_it_had() {
    let before = Layout::Flat.parse(&user(), &nodes(&FLAT), None);
    let mut slip = FLAT;
    slip[1].1 = r#"{"addresses":[{"address":"10.0.0.5:80","weight":7}"#;
    let after = Layout::Flat.parse(&user(), &nodes(&slip), before.as_ref()).unwrap();
    assert_eq!(after.providers, before.unwrap().providers);
    assert_eq!(after.skipped[0].path, "/address/user");
    let mut hidden = nodes(&FLAT);
    hidden.retain(|node| !node.path.starts_with("/address/user/"));
    hidden[1].data = Err("its ACL hides it".into());
    let unseen = Layout::Flat.parse(&user(), &hidden, Some(&after)).unwrap();
    assert_eq!(unseen.providers.len(), after.providers.len());
    let again = Layout::Flat.parse(&user(), &nodes(&slip), Some(&after)).unwrap();
    assert_eq!(again.providers, after.providers);
}

#[test]
fn a_slip_in_one_field_opens_nothing() {
    let parse = |data: &str| Layout::Flat.parse(&user(), &nodes(&[("/service/user", data)]), None).unwrap();
    assert_eq!(parse(r#"{"access":"Key"}"#).access, Access::Key);
    assert_eq!(parse(r#"{"state":"of"}"#).state, State::Off);
    let owner = parse(r#"{"state":"off","access":"key","owner":5}"#);
    assert_eq!((owner.state, owner.access, owner.skipped.len()), (State::Off, Access::Key, 1));
    for layout in [Layout::Flat, Layout::Tree] {
        let own = if layout == Layout::Flat { "/service/user" } else { "/services/user" };
        for data in [r#"{"access":"key",}"#, "\u{feff}{}", "[]"] {
            let service = layout.parse(&user(), &nodes(&[(own, data)]), None).unwrap();
            assert_eq!((service.access, service.skipped.len()), (Access::Key, 1), "{data}");
            let open = layout.parse(&user(), &nodes(&[(own, "{}")]), None);
            let before = layout.parse(&user(), &nodes(&[(own, data)]), open.as_ref()).unwrap();
            assert_eq!(before.access, Access::Open, "what was open stays open");
        }
    }
}

#[test]
fn in_tree_a_key_opens_the_api_it_stands_below() {
    let key = |n: u8| format!(r#"{{"keys":[{{"sha256":"{}"}}]}}"#, format!("{n:02x}").repeat(32));
    let (one, two) = (key(1), key(2));
    let all = [
        ("/services/user/get", "{}"),
        ("/services/user/put", "{}"),
        ("/services/user/get/access/web", one.as_str()),
        ("/services/user/put/access/web", two.as_str()),
    ];
    let service = Layout::Tree.parse(&user(), &nodes(&all), None).unwrap();
    let grants: Vec<_> =
        service.callers["web"].iter().map(|g| (g.apis[0].as_str(), g.keys[0].sha256[0])).collect();
    assert_eq!(grants, [("get", 1), ("put", 2)]);
}

#[test]
fn a_bad_policy_keeps_the_last_good_one() {
    let before = Layout::Flat.parse(&user(), &nodes(&FLAT), None);
    let bad = [("/service/user", r#"{"owner":"them","policy":{"timeout":5}}"#)];
    let after = Layout::Flat.parse(&user(), &nodes(&bad), before.as_ref()).unwrap();
    assert_eq!(after.policy, before.unwrap().policy);
    assert_eq!(after.owner.as_deref(), Some("them"));
    let reason = &after.skipped[0].reason;
    assert!(reason.contains("timeout") && reason.ends_with("last good policy stays in force"), "{reason}");
}

#[test]
fn a_slip_in_a_policy_is_refused_and_what_a_later_version_knows_is_left_alone() {
    let before = Layout::Flat.parse(&user(), &nodes(&FLAT), None);
    let parse = |policy: &str, before: Option<&Service>| {
        let data = format!("{{\"policy\":{policy}}}");
        Layout::Flat.parse(&user(), &nodes(&[("/service/user", &data)]), before).unwrap()
    };
    let slip = r#"{"timeuot":"1s"}"#;
    let told = "policy.timeuot: no field has that name; did you mean `timeout`?";
    let after = parse(slip, before.as_ref());
    assert_eq!(Some(after.policy), before.as_ref().map(|before| before.policy.clone()));
    assert_eq!(after.skipped[0].reason, format!("{told}; the last good policy stays in force"));
    let none = "none of its rules is in force, and no good policy of this node is known";
    let first = parse(slip, None);
    assert_eq!(first.skipped[0].reason, format!("{told}; {none}"));
    assert_eq!(parse(slip, Some(&first)).skipped[0].reason, format!("{told}; {none}"));
    let later = parse(r#"{"mirror":"shop","timeout":"1s"}"#, None);
    assert!(later.policy.has("timeout") && later.policy.has("mirror"));
    assert!(later.skipped.is_empty());
}

#[test]
fn a_slip_in_a_quota_lifts_no_limit() {
    let key = format!("\"keys\":[{{\"sha256\":\"{}\"}}]", "01".repeat(32));
    for (layout, own, caller) in [
        (Layout::Flat, "/api/user/get", "/access/user/web"),
        (Layout::Tree, "/services/user/get", "/services/user/get/access/web"),
    ] {
        let parse = |quota: &str, before: Option<&Service>| {
            let data = format!("{{{key},\"quota\":{quota}}}");
            layout.parse(&user(), &nodes(&[(own, "{}"), (caller, &data)]), before).unwrap()
        };
        let good = parse(r#"{"rate":5}"#, None);
        let none = parse("null", None);
        let quota = |service: &Service| service.callers["web"][0].quota.clone();
        assert_eq!((quota(&good).unwrap().rate, quota(&none)), (5, None));
        for bad in ["7", r#"{"rate":0}"#, r#"{"rate":1,"brust":2}"#, r#"{"rate":1,"scope":"all"}"#] {
            let after = parse(bad, Some(&good));
            assert_eq!(quota(&after), quota(&good), "{bad}: the last good one stays");
            let reason = &after.skipped[0].reason;
            assert!(reason.starts_with("quota") && reason.ends_with("stays in force"), "{reason}");
            let still = parse(bad, Some(&none));
            assert_eq!(quota(&still), None, "{bad}: what was not limited stays so");
            assert!(still.skipped[0].reason.ends_with("had none before, and stays without"));
            let first = parse(bad, None);
            for known in [&first, &parse(bad, Some(&first))] {
                let reason = &known.skipped[0].reason;
                assert!(
                    reason.ends_with("no good one is known, so nothing of this caller is admitted"),
                    "{reason}"
                );
            }
            assert_eq!(quota(&first), Some(Quota::UNREAD), "{bad}: nothing is known, nothing is admitted");
            assert_eq!(first.callers["web"][0].keys.len(), 1, "{bad}: the rest of the node holds");
        }
        for broken in ["{", "[]"] {
            let broken = nodes(&[(own, "{}"), (caller, broken)]);
            let after = layout.parse(&user(), &broken, Some(&good)).unwrap();
            assert_eq!((quota(&after), after.callers["web"][0].keys.len()), (quota(&good), 0));
            assert_eq!(quota(&layout.parse(&user(), &broken, None).unwrap()), Some(Quota::UNREAD));
        }
    }
}

#[test]
fn a_provider_as_a_node_is_read_as_this_one() {
    for (layout, all) in [(Layout::Flat, &FLAT[1..4]), (Layout::Tree, &TREE[1..3])] {
        let mut before = nodes(all);
        before.iter_mut().for_each(|node| node.ephemeral = node.path.ends_with(":80"));
        let service = layout.parse(&user(), &before, None).unwrap();
        let of_apis = service.apis.iter().flat_map(|(api, found)| {
            found.providers.iter().flatten().map(move |provider| (Some(api), provider))
        });
        let providers: Vec<_> =
            service.providers.iter().map(|provider| (None, provider)).chain(of_apis).collect();
        assert!(!providers.is_empty());
        let parents =
            before.iter().filter(|node| !node.path.ends_with(":80") && node.path != "/address/user");
        let again: Vec<_> = providers
            .iter()
            .filter_map(|(api, provider)| layout.provider_node(&user(), *api, provider))
            .chain(parents.cloned())
            .collect();
        let mut again = layout.parse(&user(), &again, None).unwrap();
        let listed = service.providers.iter().map(|provider| provider.listed);
        again.providers.iter_mut().zip(listed).for_each(|(provider, listed)| provider.listed = listed);
        assert_eq!(again, service);
    }
}
