// Names that other ways to name locks refuse, with their ids.
export const ids = [
    [ "foo", "foo" ], [ "user:42", "user:42" ], [ "user_42", "user_42" ], [ "42", "42" ], [ "-", "-" ], [ "a.b", "a.b" ], [ "...", "..." ],
    [ "3fa85f64-5717-4562-b3fc-2c963f66afa6", "3fa85f64-5717-4562-b3fc-2c963f66afa6" ], [ "a@b+c=(d)*e!", "a@b+c=(d)*e!" ],
    [ "", "%" ], [ ".", "%2E" ], [ "..", "%2E%2E" ], [ "%", "%25" ], [ "%2E", "%252E" ], [ "a b", "a%20b" ], [ "a%20b", "a%2520b" ],
    [ "a/b", "a%2Fb" ], [ "a?b#c", "a%3Fb%23c" ], [ "a{b}", "a%7Bb%7D" ], [ "a^b", "a%5Eb" ], [ "\"<>`", "%22%3C%3E%60" ], [ "a\0b", "a%00b" ],
    [ "\n", "%0A" ], [ "\x7f", "%7F" ], [ "ä", "%C3%A4" ], [ "a\u0308", "a%CC%88" ], [ "\u20ac", "%E2%82%AC" ], [ "\u{1f600}", "%F0%9F%98%80" ],
    [ "\ud800", "%ED%A0%80" ], [ "\udfff", "%ED%BF%BF" ], [ "\ude00\ud83d", "%ED%B8%80%ED%A0%BD" ], [ "\ufffd", "%EF%BF%BD" ], [ "$&", "$&" ]
]
