//! Parameters between HTTP bodies, queries and Yar.
#![expect(clippy::unwrap_used, reason = "parameters that are not as expected must stop the test")]

use proto_adapters::{
    Empty, Options, Wire, body_to_params, form_to_params, params_to_body, params_to_query, transcode,
};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What a body becomes, as JSON; the same toward both codecs.
fn body(text: &str, order: &[&str]) -> Result<String, String> {
    let o = Options::default();
    let json = body_to_params(text.as_bytes(), Wire::Json, &names(order), o);
    let packed = body_to_params(text.as_bytes(), Wire::Msgpack, &names(order), o);
    same(json.map_err(|f| f.to_string()), packed.map_err(|f| f.to_string()))
}

fn query(text: &str, order: &[&str]) -> Result<String, String> {
    let o = Options::default();
    let json = form_to_params(text.as_bytes(), Wire::Json, &names(order), o);
    let packed = form_to_params(text.as_bytes(), Wire::Msgpack, &names(order), o);
    same(json.map_err(|f| f.to_string()), packed.map_err(|f| f.to_string()))
}

fn same(json: Result<Vec<u8>, String>, packed: Result<Vec<u8>, String>) -> Result<String, String> {
    let packed =
        packed.map(|packed| transcode(Wire::Msgpack, Wire::Json, &packed, "$", Options::default()).unwrap());
    assert_eq!(json, packed);
    json.map(|text| String::from_utf8(text).unwrap())
}

/// `json` as the parameters of a Yar caller, toward a JSON body; the same from both codecs.
fn to_body(json: &str) -> Result<String, String> {
    let o = Options::default();
    let direct = params_to_body(Wire::Json, json.as_bytes(), o).map_err(|f| f.to_string());
    let packed = pack(json);
    let through = params_to_body(Wire::Msgpack, &packed, o).map_err(|f| f.to_string());
    assert_eq!(direct, through);
    direct.map(|text| String::from_utf8(text).unwrap())
}

fn to_query(json: &str, order: &[&str]) -> Result<String, String> {
    let direct = params_to_query(Wire::Json, json.as_bytes(), &names(order)).map_err(|f| f.to_string());
    let through = params_to_query(Wire::Msgpack, &pack(json), &names(order)).map_err(|f| f.to_string());
    assert_eq!(direct, through);
    direct
}

fn pack(json: &str) -> Vec<u8> {
    let map = Options { empty: Empty::Map, ..Options::default() };
    transcode(Wire::Json, Wire::Msgpack, json.as_bytes(), "$", map).unwrap()
}

#[test]
fn a_list_is_positional_as_it_is_whatever_the_names() {
    for order in [&[][..], &["a"]] {
        assert_eq!(body("[1,[2],{\"k\":3.0}]", order).unwrap(), "[1,[2],{\"k\":3.0}]");
        assert_eq!(body("[]", order).unwrap(), "[]");
    }
}

#[test]
fn no_body_is_no_parameters() {
    assert_eq!(body("", &[]).unwrap(), "[]");
    assert_eq!(body("", &["a"]).unwrap(), "[]");
}

#[test]
fn an_object_without_names_is_the_one_parameter() {
    assert_eq!(body(r#"{"a":1,"b":[2]}"#, &[]).unwrap(), r#"[{"a":1,"b":[2]}]"#);
}

#[test]
fn an_empty_object_without_names_is_one_empty_list_or_the_map_that_is_asked_for() {
    let packed = |wire, o| body_to_params(b" {} ", wire, &[], o).unwrap();
    let map = Options { empty: Empty::Map, ..Options::default() };
    for (o, msgpack, json) in [(Options::default(), b"\x91\x90", &b"[[]]"[..]), (map, b"\x91\x80", b"[{}]")] {
        assert_eq!(packed(Wire::Msgpack, o), msgpack);
        assert_eq!(packed(Wire::Json, o), json);
        assert_eq!(packed(Wire::Php, o), b"a:1:{i:0;a:0:{}}");
    }
}

#[test]
fn an_object_with_names_goes_by_their_order() {
    let order = ["id", "tags", "note"];
    assert_eq!(body(r#"{"tags":["x"],"id":7}"#, &order).unwrap(), r#"[7,["x"]]"#);
    assert_eq!(body(r#"{"note":null,"tags":{"k":1},"id":7}"#, &order).unwrap(), r#"[7,{"k":1},null]"#);
    assert_eq!(body(r#"{"id":1,"id":2}"#, &order).unwrap(), "[2]");
    assert_eq!(body("{}", &order).unwrap(), "[]");
}

#[test]
fn a_name_left_out_before_one_given_is_refused() {
    assert_eq!(
        body(r#"{"note":1,"id":7}"#, &["id", "tags", "note"]).unwrap_err(),
        "$: the parameter `tags` is missing before `note`; the order is: id, tags, note"
    );
}

#[test]
fn a_key_that_is_no_parameter_is_refused_by_name() {
    assert_eq!(
        body(r#"{"id":7,"extra":1}"#, &["id", "tags"]).unwrap_err(),
        "$.extra: no parameter of that name; there are: id, tags"
    );
}

#[test]
fn a_scalar_body_cannot_be_parameters() {
    for (text, kind) in [("7", "a number"), ("\"x\"", "a string"), ("null", "null"), ("true", "a boolean")] {
        let wanted = format!("$: {kind} cannot be the parameters of a call; send an array or an object");
        assert_eq!(body(text, &[]).unwrap_err(), wanted);
    }
}

#[test]
fn a_body_that_is_not_json_is_malformed_by_its_offset() {
    for order in [&[][..], &["a"]] {
        assert_eq!(body("a=1&b=2", order).unwrap_err(), "byte 0: 'a' where a value belongs");
        assert_eq!(body("{\"a\":1}x", order).unwrap_err(), "byte 7: bytes behind the value");
        assert_eq!(body("{}x", order).unwrap_err(), "byte 2: bytes behind the value");
        assert_eq!(body("7x", order).unwrap_err(), "byte 1: bytes behind the value");
    }
}

#[test]
fn a_value_that_does_not_fit_is_named_under_its_parameter() {
    let text = r#"{"b":{"c":[1e999]},"a":1}"#.as_bytes();
    let fault = body_to_params(text, Wire::Msgpack, &names(&["a", "b"]), Options::default()).unwrap_err();
    assert_eq!(fault.to_string(), "$.b.c[0]: the number 1e999 is beyond the largest float");
}

#[test]
fn a_query_is_one_map_of_strings() {
    assert_eq!(query("", &[]).unwrap(), "[]");
    assert_eq!(query("a=1&b=&c", &[]).unwrap(), r#"[{"a":"1","b":"","c":""}]"#);
    assert_eq!(query("a=1&&a=2", &[]).unwrap(), r#"[{"a":"2"}]"#);
    assert_eq!(query("x+y=%C3%A9%2B%zz%4", &[]).unwrap(), r#"[{"x y":"é+%zz%4"}]"#);
    assert_eq!(query("a%5B%5D=1&b=3&a[]=2", &[]).unwrap(), r#"[{"a":["1","2"],"b":"3"}]"#);
    assert_eq!(query("a=0&a[]=1&b[]=2&b=3", &[]).unwrap(), r#"[{"a":["1"],"b":"3"}]"#);
}

#[test]
fn a_query_goes_by_names_like_a_body() {
    assert_eq!(query("b=2&a=1", &["a", "b", "c"]).unwrap(), r#"["1","2"]"#);
    assert_eq!(query("", &["a"]).unwrap(), "[]");
    assert_eq!(query("z=1", &["a"]).unwrap_err(), "$.z: no parameter of that name; there are: a");
    assert_eq!(
        query("b=1", &["a", "b"]).unwrap_err(),
        "$: the parameter `a` is missing before `b`; the order is: a, b"
    );
}

#[test]
fn brackets_make_lists_and_maps_as_in_php() {
    assert_eq!(query("a[2]=x&a[]=y&a[k][]=z", &[]).unwrap(), r#"[{"a":{"2":"x","3":"y","k":["z"]}}]"#);
    assert_eq!(query("a[1]=x&a[0]=y", &[]).unwrap(), r#"[{"a":{"1":"x","0":"y"}}]"#);
    assert_eq!(query("a=1&b=2&a[]=3&a[]=4", &[]).unwrap(), r#"[{"a":["3","4"],"b":"2"}]"#);
    assert_eq!(query("a[x]=1&a=2&a[y]=3", &[]).unwrap(), r#"[{"a":{"y":"3"}}]"#);
    assert_eq!(query("0=x&1=y", &[]).unwrap(), r#"[{"0":"x","1":"y"}]"#);
    assert_eq!(query("b[k]=1&a[]=2&a[]=3", &["a", "b"]).unwrap(), r#"[["2","3"],{"k":"1"}]"#);
    assert_eq!(query(" a=1&++b=2&%20c=3", &[]).unwrap(), r#"[{"a":"1","b":"2","c":"3"}]"#);
    assert_eq!(query("a[ ]=1&a[%09]=2&a[  ]=3", &[]).unwrap(), r#"[{"a":{"0":"1","1":"2","  ":"3"}}]"#);
}

#[test]
fn a_name_that_php_would_change_or_leave_out_is_refused() {
    for name in ["a[", "a[b", "a[b]c", "a[b][", "[a]", "a[b]]"] {
        assert_eq!(
            query(&format!("x=1&{name}=2"), &[]).unwrap_err(),
            format!("byte 4: the name \"{name}\" has brackets that do not match; write them as in a[k][]")
        );
    }
    assert_eq!(
        query("a[9223372036854775807]=1&a[]=2", &[]).unwrap_err(),
        "byte 25: the name \"[]\" comes behind the largest integer"
    );
    for name in ["", "+", "%20"] {
        let told = query(&format!("x=1&{name}=2"), &[]).unwrap_err();
        assert_eq!(told, "byte 4: the name \"\" is empty, and PHP would leave the field out");
    }
    for name in ["a%00b", "%00", "a[k%00]", "a%00[k]"] {
        let told = query(&format!("x=1&{name}=2"), &[]).unwrap_err();
        assert!(told.ends_with("holds a NUL, where PHP would cut it"), "{told}");
    }
    assert_eq!(query("%ffa=1", &[]).unwrap_err(), "byte 0: the name \"\\xffa\" is not UTF-8");
    let deep = query(&format!("a{}=1", "[k]".repeat(65)), &[]).unwrap_err();
    assert!(deep.ends_with("has more than 64 brackets") && deep.chars().count() < 120, "{deep}");
    let many = query(&"a=1&".repeat(1001), &[]).unwrap_err();
    assert_eq!(many, "byte 4000: more than 1000 fields; send them as JSON");
}

#[test]
fn bytes_in_a_form_reach_msgpack_and_are_refused_by_json_with_their_place() {
    let o = Options::default();
    assert_eq!(form_to_params(b"a=%FF", Wire::Msgpack, &[], o).unwrap(), b"\x91\x81\xa1a\xa1\xff");
    for (form, place) in [("a=%FF", "$.a"), ("a[][k%20l]=%FF", "$.a[0][\"k l\"]"), ("7=%FF", "$[7]")] {
        assert_eq!(
            form_to_params(form.as_bytes(), Wire::Json, &[], o).unwrap_err().to_string(),
            format!("{place}: 1 bytes that are not UTF-8 cannot become JSON")
        );
    }
    let named = form_to_params(b"b[k]=%FF&a=1", Wire::Json, &names(&["a", "b"]), o).unwrap_err();
    assert_eq!(named.to_string(), "$.b.k: 1 bytes that are not UTF-8 cannot become JSON");
}

#[test]
fn one_map_parameter_is_the_body() {
    assert_eq!(to_body(r#"[{"a":[1]}]"#).unwrap(), r#"{"a":[1]}"#);
    assert_eq!(to_body("[{}]").unwrap(), "{}");
    assert_eq!(to_body(r#"{"a":3.0}"#).unwrap(), r#"{"a":3.0}"#);
}

#[test]
fn any_other_parameters_are_a_list() {
    for params in ["[]", "[1]", "[[]]", r#"[{"a":1},2]"#, r#"[{"a":1},{"b":1}]"#] {
        assert_eq!(to_body(params).unwrap(), params);
    }
    assert_eq!(params_to_body(Wire::Msgpack, b"", Options::default()).unwrap(), b"[]");
    assert_eq!(to_body("5").unwrap_err(), "$.p: a number cannot be the parameters of a call");
}

#[test]
fn a_parameter_without_json_is_named_by_its_place() {
    let fault =
        |packed: &[u8]| params_to_body(Wire::Msgpack, packed, Options::default()).unwrap_err().to_string();
    assert_eq!(fault(b"\x91\x81\xa1a\xa1\xff"), "$.p[0].a: 1 bytes that are not UTF-8 cannot become JSON");
    assert_eq!(fault(b"\x92\x01\xa1\xff"), "$.p[1]: 1 bytes that are not UTF-8 cannot become JSON");
    assert_eq!(fault(b"\x81\xa1a\xa1\xff"), "$.p.a: 1 bytes that are not UTF-8 cannot become JSON");
    assert_eq!(fault(b"\x91\x82\xc0\xa1X\xa1a\x01"), "$.p[0]: a PHP object of class X cannot become JSON");
    assert_eq!(fault(b"\x91\x01\x01"), "byte 2: bytes behind the value");
}

#[test]
fn parameters_become_a_query_as_php_builds_it() {
    assert_eq!(to_query("[]", &[]).unwrap(), "");
    assert_eq!(
        to_query(r#"[1,"a b",true,false,1.5,3.0]"#, &["a", "b", "c", "d", "e", "f"]).unwrap(),
        "a=1&b=a+b&c=1&d=0&e=1.5&f=3"
    );
    assert_eq!(to_query("[null,1]", &["a", "b"]).unwrap(), "b=1");
    assert_eq!(
        to_query(r#"[{"a":"é&=","b":[1,[2]],"c":{"k":{"l":"x"}},"d":[],"e":{}}]"#, &[]).unwrap(),
        "a=%C3%A9%26%3D&b%5B0%5D=1&b%5B1%5D%5B0%5D=2&c%5Bk%5D%5Bl%5D=x"
    );
    assert_eq!(to_query(r#"[[1,2],{"k":3}]"#, &["a", "b"]).unwrap(), "a%5B0%5D=1&a%5B1%5D=2&b%5Bk%5D=3");
    assert_eq!(to_query(r#"{"a":1}"#, &["z"]).unwrap(), "a=1");
    assert_eq!(to_query("[1e300]", &["~.-_"]).unwrap(), "%7E.-_=1.0E%2B300");
}

#[test]
fn more_parameters_than_names_are_refused() {
    assert_eq!(to_query("[1,2]", &["a"]).unwrap_err(), "$.p[1]: more parameters than the 1 with a name");
    assert_eq!(to_query("[1]", &[]).unwrap_err(), "$.p[0]: more parameters than the 0 with a name");
}

#[test]
fn a_query_is_not_blown_up_by_long_keys() {
    let key = "k".repeat(60_000);
    let json = format!(r#"[{{"{key}":[{}1]}}]"#, "1,".repeat(10_000));
    assert_eq!(
        to_query(&json, &[]).unwrap_err().lines().last().unwrap().rsplit(": ").next().unwrap(),
        "the query would pass 65536 bytes"
    );
    let wide = format!(r#"["{}"]"#, "é".repeat(20_000));
    assert!(to_query(&wide, &["a"]).is_err());
}
