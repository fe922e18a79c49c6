//! Who is told of events, from the command line.

use super::Desk;

#[test]
fn webhooks_are_added_listed_and_removed_and_their_secrets_shown_once() {
    let desk = Desk::new();
    desk.says(&["rollout", "create", "winter.toml"]);
    let secret = desk.says(&["webhook", "add", "chat", "http://127.0.0.1:1/x", "--kind", "state"]);
    assert!(secret.starts_with("whsec_") && secret.trim().len() == 50, "{secret}");
    let shown = desk.json(&["webhook", "list", "--json"]);
    assert_eq!((&shown["name"], &shown["delivered"]), (&"chat".into(), &1.into()), "{shown}");
    assert_eq!((&shown["kinds"][0], &shown["secrets"]), (&"state".into(), &1.into()), "{shown}");
    let again = desk.refuses(&["webhook", "add", "chat", "https://a/"]);
    assert!(again.contains("already"), "{again}");
    for url in ["ftp://a/", "https://me:secret@a/", "a b"] {
        desk.refuses(&["webhook", "add", "other", url]);
    }
    let unknown = desk.run(&["webhook", "add", "other", "https://a/", "--kind", "everything"]);
    let unknown = String::from_utf8(unknown.stderr).unwrap();
    assert!(unknown.contains("lease-lost"), "says which kinds there are: {unknown}");

    desk.write("secret", b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    desk.write("short", b"whsec_AAAA\n");
    desk.refuses(&["webhook", "add", "own", "https://a/", "--secret-file", "short"]);
    let said = desk.says(&["webhook", "add", "own", "https://a/", "--secret-file", "secret"]);
    assert_eq!(said, "", "a secret that the operator has is not repeated");

    let second = desk.says(&["webhook", "rotate", "chat"]);
    assert!(second.starts_with("whsec_") && second != secret);
    assert!(desk.refuses(&["webhook", "rotate", "chat"]).contains("--finish"));
    desk.says(&["webhook", "rotate", "chat", "--finish"]);
    assert_eq!(desk.says(&["webhook", "list", "--json"]).matches("\"secrets\":1").count(), 2);
    let table = desk.says(&["webhook", "list"]);
    assert!(table.contains("all but steps") && !table.contains("whsec_"), "{table}");

    let refused = desk.refuses(&["webhook", "test", "chat"]);
    assert!(refused.contains("cannot be reached"), "{refused}");
    desk.says(&["webhook", "remove", "chat"]);
    assert!(desk.refuses(&["webhook", "remove", "chat"]).contains("there is no webhook chat"));
}
