// Processes that have little in common: other users, other pid namespaces, a full disk, a table that somebody cut off.
import { test } from "node:test"
import assert from "node:assert/strict"
import { spawnSync } from "node:child_process"
import { chmodSync, chownSync, mkdirSync, readdirSync, statSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { watchLeaks } from "../support/leaks.mjs"
import Mutex from "../../index.js"
import { asRoot, member, onLinux, place, smallDisk, urlIn } from "./members.mjs"

watchLeaks()

/** Nobody has these. */
const ANNA = 61_201, BEN = 61_202, TEAM = 61_203

/** Root and the two users at one lock, the first of them first; everybody excludes everybody. */
async function inTurn (t, url, members) {
    const all = []
    for (const as of members) {
        const one = await member(t, url, { as })
        assert.deepEqual(await one.call("open"), { name: "open", result: undefined })
        all.push(one)
    }
    for (const holder of all) {
        await holder.call("lock")
        const waits = []
        for (const other of all.filter((one) => one !== holder)) {
            assert.equal((await other.call("tryLock")).result, false)
            waits.push([ other, await other.wait() ])
        }
        await holder.call("release")
        // In the order in which they asked, which is not known here.
        await Promise.all(waits.map(async ([ other, held ]) => {
            await held()
            await other.call("release")
        }))
    }
}

const root = [], anna = [ ANNA, ANNA, TEAM ], ben = [ BEN, BEN, TEAM ]

for (const [ who, members ] of Object.entries({ root: [ root, anna, ben ], "a user": [ anna, root, ben ] }))
    test(`a folder of a group serves its users and root, whatever the umask, when ${who} comes first`, asRoot, async (t) => {
        const { folder, url } = place(t)
        chownSync(folder, 0, TEAM)
        chmodSync(folder, 0o770)
        await inTurn(t, url, members)
        for (const name of readdirSync(folder)) {
            const { gid, mode } = statSync(join(folder, name))
            assert.deepEqual([ name, gid, mode & 0o777 ], [ name, TEAM, 0o660 ])
        }
    })

test("a user's folder still is that user's when root has been there first", asRoot, async (t) => {
    const { folder, url } = place(t)
    chownSync(folder, ANNA, ANNA)
    chmodSync(folder, 0o700)
    await inTurn(t, url, [ root, anna ])
})

test("somebody whom the folder is not for gets an error that says so", asRoot, async (t) => {
    const { url } = place(t)
    const one = await member(t, url, { as: anna })
    const { code, message } = await one.call("open")
    assert.equal(code, "ERR_SERVER")
    assert.match(message, /lock folder .* cannot be opened/)
})

test("processes of several pid namespaces share a lock, and hear of each other's deaths", asRoot, async (t) => {
    const { url } = place(t)
    if (spawnSync("unshare", [ "--pid", "--fork", "true" ]).status !== 0)
        return t.skip("pid namespaces cannot be made here")
    const inside = await member(t, url, { execPath: "unshare", execArgv: [ "--pid", "--fork", "--kill-child", "--mount-proc", process.execPath ] })
    await inside.call("open")
    await inside.call("lock")
    const mutex = new Mutex(url)
    await mutex.open()
    t.after(() => mutex.close())
    assert.equal(await mutex.tryLock(), null)
    const waiting = mutex.lock()
    await inside.child.kill("SIGKILL")
    const lock = await waiting
    const other = await member(t, url, { execPath: "unshare", execArgv: [ "--pid", "--fork", "--kill-child", "--mount-proc", process.execPath ] })
    await other.call("open")
    const held = await other.wait()
    await lock.release()
    await held()
    assert.equal(await mutex.tryLock(), null)
    await other.call("release")
})

test("a full disk is an error of a call, and those who hold go on", asRoot, async (t) => {
    const disk = smallDisk(t, "320k")
    if (disk === undefined)
        return t.skip("a small disk cannot be mounted here")
    const one = await member(t, urlIn(disk))
    await one.call("open")
    await one.call("lock")
    // As many locks as fit.
    const mutexes = []
    const close = () => Promise.all(mutexes.splice(0).map((mutex) => mutex.close()))
    t.after(close)
    let error
    for (let number = 0; error === undefined; number++) {
        const mutex = new Mutex(urlIn(disk).replace("place", `full-${number}`))
        await mutex.open()
        mutexes.push(mutex)
        await mutex.acquire().catch((reason) => { error = reason })
    }
    assert.equal(error.code, "ERR_SERVER")
    assert.match(error.message, /no space left on the device of lock table/)
    assert.deepEqual(await one.call("release"), { name: "release", result: undefined })
    await close()
    // What was given back is enough for the next.
    assert.equal((await one.call("lock")).code, undefined)
    assert.equal(one.child.result, undefined)
})

test("a disk that is full from the beginning is an error of open()", asRoot, async (t) => {
    const disk = smallDisk(t, "100k")
    if (disk === undefined)
        return t.skip("a small disk cannot be mounted here")
    const one = await member(t, urlIn(disk))
    for (let times = 0; times < 2; times++)
        assert.equal((await one.call("open")).code, "ERR_SERVER")
})

test("whoever holds a lock of a table that is cut off is told, and does not crash", onLinux, async (t) => {
    const { folder, url } = place(t)
    const one = await member(t, url)
    await one.call("open")
    await one.call("lock")
    truncateSync(join(folder, readdirSync(folder).find((name) => name.startsWith("table-"))))
    assert.equal((await one.call("release")).code, "ERR_LOCK_LOST")
    assert.equal((await one.call("lock")).code, undefined)
    await one.call("release")
})

test("what stands in the place of a file is an error of open()", onLinux, async (t) => {
    const { folder, url } = place(t)
    writeFileSync(join(folder, "wake-1"), "no FIFO")
    await assert.rejects(new Mutex(url).open(), { code: "ERR_SERVER" })
    const other = place(t)
    mkdirSync(join(other.folder, "gate"))
    await assert.rejects(new Mutex(other.url).open(), { code: "ERR_SERVER", message: /lock folder/ })
})
