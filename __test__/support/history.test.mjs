import test from "node:test"
import assert from "node:assert/strict"
import { mkdtempSync, rmSync, appendFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { History, check, now } from "./history.mjs"
import { startChild } from "./children.mjs"
import { watchLeaks } from "./leaks.mjs"

watchLeaks()

/**
 * A history from a picture: one line per event, "<millisecond> <owner> <kind> [shared] [try] [token]".
 * The lock is "foo" unless the owner is written "owner@id".
 */
function picture (text) {
    const history = new History()
    for (const line of text.trim().split("\n")) {
        const [ ms, who, kind, ...rest ] = line.trim().split(/\s+/)
        const [ owner, id = "foo" ] = who.split("@")
        const at = BigInt(Math.round(Number(ms) * 1e6))
        const token = rest.find((word) => /^\d+$/.test(word))
        if (kind === "gone")
            history.gone(owner, { at })
        else
            history[kind](id, owner, { at, token, mode: rest.includes("shared") ? "shared" : "exclusive", attempt: rest.includes("try") ? "try" : "wait" })
    }
    return history
}

function rejects (text, kind, options, message) {
    assert.throws(() => check(picture(text), options), (error) => {
        assert.equal(error.code, "ERR_ASSERTION")
        assert.ok(error.kinds.includes(kind), `found ${error.kinds} where ${kind} was expected:\n${error.message}`)
        if (message)
            assert.match(error.message, message)
        return true
    })
}

const GOOD = {
    "one after the other": `
        1 a ask
        2 b ask
        3 a grant 10
        4 a release
        5 b grant 11
        6 b release`,
    "different locks at once": `
        1 a@x ask
        1 b@y ask
        2 a@x grant 1
        2 b@y grant 1
        3 a@x release
        3 b@y release`,
    "one owner many times, and a hold at the end": `
        1 a ask
        2 a grant 1
        3 a release
        4 a ask
        5 a grant 2`,
    "readers together, their grants recorded in any order": `
        1 a ask shared
        2 b ask shared
        3 b grant 6
        4 a grant 5
        5 a release
        6 b release`,
    "a reader whose grant is recorded after another of its run has released": `
        1 a ask shared
        2 b ask shared
        3 b grant 6
        4 b release
        5 a grant 5
        6 a release`,
    "readers, a writer, readers": `
        1 a ask shared
        2 b ask shared
        3 w ask
        4 c ask shared
        5 a grant 1
        6 b grant 2
        7 a release
        8 b release
        9 w grant 3
        10 w release
        11 c grant 4
        12 c release`,
    "a waiter that gives up": `
        1 a ask
        2 b ask
        3 a grant 1
        4 b cancel
        5 a release`,
    "a try that finds the lock taken": `
        1 a ask
        2 a grant 1
        3 b ask try
        4 b cancel
        5 c ask
        6 a release
        7 c grant 2
        8 c release`,
    "a lost hold, whose owner releases all the same": `
        1 a ask
        2 a grant 1
        3 b ask
        4 a lost
        5 b grant 2
        6 a release
        7 b release`,
    "a killed holder and a killed waiter": `
        1 a ask
        2 a grant 1
        3 b ask
        4 c ask
        5 a gone
        6 b gone
        7 c grant 2
        8 c release`,
    "who asks first by less than the slack": `
        1 a ask
        3 b ask
        4 b grant 1
        5 b release
        6 a grant 2
        7 a release`
}

for (const [ name, text ] of Object.entries(GOOD))
    test(`a history is accepted that shows ${name}`, () => {
        const counts = check(picture(text), { tokens: true, slack: name.includes("slack") ? 3 : 0 })
        assert.ok(counts.grants > 0)
    })

test("the counts of what was judged are given", () => {
    const histories = Object.values(GOOD).slice(0, 10).map((text, number) => {
        const history = picture(text)
        const renamed = new History()
        for (const { kind, owner, at, mode, attempt, token, id } of history.events())
            if (kind === "gone")
                renamed.gone(`${owner}${number}`, { at })
            else
                renamed[kind](`${id}${number}`, `${owner}${number}`, { at, mode, attempt, token })
        return renamed
    })
    assert.deepEqual(check(histories, { tokens: true }),
        { ids: 11, asks: 24, grants: 21, cancelled: 2, lost: 1, gone: 2, tokens: 21, readers: 2 })
})

const BAD = {
    "two exclusive holds overlap": [ "overlap", "1 a ask\n2 b ask\n3 a grant\n4 b grant\n5 a release\n6 b release", /b \(exclusive\) was granted while a \(exclusive\) held/ ],
    "a short hold lies within a long one": [ "overlap", "1 a ask\n2 b ask\n3 a grant\n4 b grant\n5 b release\n6 a release" ],
    "a hold overlaps one that ended before the last": [ "overlap", `1 a ask\n2 b ask\n2.1 c ask\n3 a grant\n4 b grant\n5 b release
        6 c grant\n7 c release\n8 a release`, /1 more of this kind/ ],
    "a writer enters among readers": [ "overlap", "1 a ask shared\n2 a grant\n3 b ask\n4 b grant\n5 a release\n6 b release", /b \(exclusive\) was granted while a \(shared\) held/ ],
    "a writer enters while the reader that came first still reads": [ "overlap", `1 a ask shared\n2 b ask shared\n3 a grant\n4 b grant\n5 b release
        6 w ask\n7 w grant\n8 w release\n9 a release` ],
    "a reader enters while a writer holds": [ "overlap", "1 a ask\n2 a grant\n3 b ask shared\n4 b grant\n5 a release\n6 b release" ],
    "somebody enters while a hold lasts that never ends": [ "overlap", "1 a ask\n2 a grant\n3 b ask\n4 b grant" ],
    "a request is never answered": [ "pending", "1 a ask\n2 a grant\n3 b ask\n4 a release", /b was never granted/ ],
    "somebody is granted without asking": [ "grant", "1 a grant" ],
    "somebody is granted twice": [ "grant", "1 a ask\n2 a grant\n3 a grant\n4 a release" ],
    "somebody is granted after giving up": [ "grant", "1 a ask\n2 a cancel\n3 a grant" ],
    "somebody gives up what was granted": [ "cancel", "1 a ask\n2 a grant\n3 a cancel" ],
    "somebody releases while waiting": [ "release", "1 a ask\n2 a release" ],
    "an owner asks twice at a time": [ "ask", "1 a ask\n2 a ask\n3 a grant\n4 a release" ],
    "a later request is granted first": [ "order", "1 a ask\n2 b ask\n3 b grant\n4 b release\n5 a grant\n6 a release", /b \(exclusive\) overtook a \(exclusive\), which had asked 1\.000 ms before/ ],
    "a try overtakes a waiter": [ "order", "1 a ask\n2 b ask try\n3 b grant\n4 b release\n5 a grant\n6 a release" ],
    "a reader overtakes a waiting writer": [ "order", `1 a ask shared\n2 a grant\n3 w ask\n4 b ask shared\n5 b grant\n6 a release\n7 b release
        8 w grant\n9 w release` ],
    "a writer overtakes a waiting reader": [ "order", `1 a ask\n2 a grant\n3 r ask shared\n4 w ask\n5 a release
        6 w grant\n7 w release\n8 r grant\n9 r release` ],
    "a reader is left out of the run of a later one": [ "order", `1 a ask\n2 a grant\n3 r ask shared\n4 s ask shared\n5 w ask
        6 a release\n7 s grant\n8 s release\n9 w grant\n10 w release\n11 r grant\n12 r release` ],
    "a waiter is overtaken and then gives up": [ "order", "1 a ask\n2 b ask\n3 b grant\n4 b release\n5 a cancel" ],
    "a token repeats": [ "token", "1 a ask\n2 a grant 5\n3 a release\n4 b ask\n5 b grant 5\n6 b release", /token 5 after a with 5/ ],
    "a token is smaller than one before the last": [ "token", `1 a ask\n2 a grant 5\n3 a release\n4 b ask\n5 b grant\n6 b release
        7 c ask\n8 c grant 4\n9 c release` ],
    "a writer's token is smaller than that of one of the readers before": [ "token", `1 a ask shared\n2 b ask shared\n3 a grant 7\n4 b grant 5
        5 a release\n6 b release\n7 w ask\n8 w grant 6\n9 w release` ],
    "two readers of one run have the same token": [ "token", "1 a ask shared\n2 b ask shared\n3 a grant 7\n4 b grant 7\n5 a release\n6 b release" ],
    "no grant has a token where tokens are wanted": [ "tokens", "1 a ask\n2 a grant\n3 a release" ],
    "a token shrinks after a loss": [ "token", "1 a ask\n2 a grant 5\n3 a lost\n4 b ask\n5 b grant 4\n6 b release" ]
}

for (const [ name, [ kind, text, message ] ] of Object.entries(BAD))
    test(`a history is rejected in which ${name}`, () => rejects(text, kind, { tokens: kind.startsWith("token") }, message))

test("order is not judged on request, and other faults still are", () => {
    const [ , text ] = BAD["a later request is granted first"]
    assert.equal(check(picture(text), { order: "none" }).grants, 2)
    rejects(BAD["two exclusive holds overlap"][1], "overlap", { order: "none" })
})

test("an overtaking by more than the slack is rejected", () => {
    rejects("1 a ask\n5 b ask\n6 b grant\n7 b release\n8 a grant\n9 a release", "order", { slack: 3 })
})

test("requests without an answer are accepted of a run that was cut short", () => {
    assert.equal(check(picture("1 a ask\n2 a grant\n3 b ask"), { pending: true }).asks, 2)
})

test("a fault between the histories of two processes is found, and the excerpt shows both", () => {
    const [ one, two ] = [ picture("1 a ask\n2 a grant\n9 a release"), picture("3 b ask\n4 b grant\n5 b release") ]
    assert.throws(() => check([ one, two ]), /-2\.000 ms {2}a {16}grant[^]*> {8}0\.000 ms {2}b {16}grant/)
})

test("a fault among 200,000 grants is found within seconds", { timeout: 30_000 }, () => {
    const history = new History()
    let at = 1n
    for (let round = 0; round < 200_000; round++) {
        const owner = `w${round % 30}`
        history.ask("foo", owner, { at: at++ })
        history.grant("foo", owner, { at: at++, token: round })
        if (round === 150_000) {
            history.ask("foo", "intruder", { at: at++ })
            history.grant("foo", "intruder", { at: at++, token: 1e9 })
        }
        history.release("foo", owner, { at: at++ })
        if (round === 150_000)
            history.release("foo", "intruder", { at: at - 1n })
    }
    assert.throws(() => check(history, { tokens: true }), (error) => {
        assert.deepEqual(error.kinds, [ "overlap", "token" ])
        assert.match(error.message, /intruder \(exclusive\) was granted while w0 \(exclusive\) held/)
        return true
    })
})

test("a history survives JSON", () => {
    const history = picture(GOOD["readers, a writer, readers"])
    const copy = History.from(JSON.parse(JSON.stringify(history)))
    assert.deepEqual([ ...copy.events() ], [ ...history.events() ])
    copy.ask("bar", "z", { at: 7n })
    assert.deepEqual([ ...copy.events() ].at(-1), { kind: "ask", id: "bar", owner: "z", mode: "exclusive", attempt: "wait", token: undefined, at: 7n })
})

test("a history in a file survives the SIGKILL of its process, and a line cut short", async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "imt-history-"))
    t.after(() => rmSync(folder, { recursive: true }))
    const file = join(folder, "history")
    const program = `
        import { History } from ${JSON.stringify(new URL("./history.mjs", import.meta.url).href)}
        const history = new History({ file: process.argv[2] })
        history.ask("foo", "a", { mode: "shared" })
        history.grant("foo", "a", { token: 2n ** 60n })
        process.send("granted")
        setInterval(() => {}, 1000)`
    const before = now()
    const child = await startChild(t, `data:text/javascript,${encodeURIComponent(program)}`, [ file ])
    await child.message("granted")
    const killed = now()
    await child.kill("SIGKILL")
    appendFileSync(file, "[\"release\",\"foo\",\"a")
    const history = History.read(file)
    history.gone("a", { at: killed })
    const events = [ ...history.events() ]
    assert.deepEqual(events.map(({ kind, token }) => [ kind, token ]), [ [ "ask", undefined ], [ "grant", 2n ** 60n ], [ "gone", undefined ] ])
    assert.equal(events[0].mode, "shared")
    assert.ok(before < events[0].at && events[1].at < killed, "the clock is one for both processes")
    assert.equal(check(history, { tokens: true }).gone, 1)
})
