// What `npm run bench -- --profile` makes of the kernel's counters.
import assert from "node:assert/strict"
import { test } from "node:test"
import { added, counting, countersOf, difference, profileCells } from "../../benches/harness/profile.mjs"

test("a thread's counters are read from the texts of the kernel", () => {
    const status = "Name:\tnode\nThreads:\t11\nvoluntary_ctxt_switches:\t1234\nnonvoluntary_ctxt_switches:\t99\n"
    assert.deepEqual(countersOf("5000000 300 42\n", status), { nanoseconds: 5_000_000, wakeUps: 1234 })
})

test("what was spent is the growth of each role's threads, and all of a thread that is new", () => {
    const thread = (role, nanoseconds, wakeUps) => ({ role, nanoseconds, wakeUps })
    const before = new Map([ [ "1", thread("server", 100, 1) ], [ "2", thread("server", 10, 0) ], [ "3", thread("main thread", 7, 7) ] ])
    const after = new Map([ [ "1", thread("server", 150, 3) ], [ "2", thread("server", 10, 0) ], [ "4", thread("server", 5, 1) ],
        [ "3", thread("main thread", 8, 9) ] ])
    assert.deepEqual(difference(before, after), { "server": { nanoseconds: 55, wakeUps: 3 }, "main thread": { nanoseconds: 1, wakeUps: 2 } })
})

test("several rounds are added up, and those that did not count are left out", () => {
    const usage = (pairs, nanoseconds) => ({ pairs, spent: { server: { nanoseconds, wakeUps: 1 } } })
    assert.deepEqual(added([ usage(10, 1000), undefined, usage(5, 500) ]), { pairs: 15, spent: { server: { nanoseconds: 1500, wakeUps: 2 } } })
    assert.equal(added([ undefined, undefined ]), undefined)
})

test("a line of the profile has microseconds and wake-ups per pair", () => {
    const spent = { "server": { nanoseconds: 30_000, wakeUps: 20 }, "main thread": { nanoseconds: 10_000, wakeUps: 5 },
        "ipc-mutex": { nanoseconds: 20_000, wakeUps: 10 }, "node": { nanoseconds: 1000, wakeUps: 0 } }
    assert.deepEqual(profileCells({ title: "Pair" }, [ { contender: { role: "ours" }, usage: { pairs: 10, spent } }, { contender: { role: "floor" } } ]),
        [ [ "Pair", "ours", "3.0 (2.00)", "1.0 (0.50)", "ipc-mutex 2.0 (1.00), node 0.1 (0.00)", "6.1 (3.50)" ] ])
})

test("nothing is counted unless asked for", () => {
    assert.equal(counting(undefined)(1), undefined)
})

test("this process is told from its server", { skip: process.platform !== "linux" && "reads /proc" }, () => {
    const usage = counting([ process.ppid ])(1)
    assert.equal(usage.pairs, 1)
    assert.ok(usage.spent.server.nanoseconds >= 0 && usage.spent["main thread"].nanoseconds > 0, JSON.stringify(usage))
})
