import test from "node:test"
import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { startChild, survivors, waitFor } from "./children.mjs"
import { alive, state } from "./processes.mjs"
import { watchLeaks } from "./leaks.mjs"

watchLeaks()

const program = (source) => `data:text/javascript,${encodeURIComponent(source)}`
const waiting = "process.send(\"up\"); setInterval(() => {}, 1000)"

test("messages are awaited by name, in order, whether they come before or after", async (t) => {
    const child = await startChild(t, program(`
        process.send("first")
        process.send({ name: "second", value: 2n ** 60n })
        process.on("message", (message) => { process.send({ name: "echo", message, args: process.argv.slice(2) }); process.disconnect() })`), [ "a", "b" ])
    assert.deepEqual(await child.message("second"), { name: "second", value: 2n ** 60n })
    assert.equal(await child.message("first"), "first")
    const echo = child.message("echo")
    await child.send({ x: 1 })
    assert.deepEqual(await echo, { name: "echo", message: { x: 1 }, args: [ "a", "b" ] })
    await child.success()
    assert.deepEqual(child.result, { code: 0, signal: null })
    await assert.rejects(child.message("third"), /has ended without saying "third"; exit code 0/)
})

test("a program that fails gives its code and its error output", async (t) => {
    const child = await startChild(t, program("console.log(\"out\"); throw new Error(\"broken\")"))
    const late = assert.rejects(child.message("up"), /has ended without saying "up"; exit code 1[^]*broken/)
    await assert.rejects(child.success(), /has failed; exit code 1[^]*broken[^]*out/)
    await late
})

test("a message that does not come, and an end that does not come, are failures with the output so far", async (t) => {
    const child = await startChild(t, program(`console.error("so far"); ${waiting}`))
    await child.message("up")
    await waitFor(() => child.stderr !== "", { what: "the output" })
    await assert.rejects(child.message("more", { timeout: 10 }), /has not said "more" within 10 ms; it still runs[^]*so far/)
    await assert.rejects(child.exit({ timeout: 10 }), /has not ended within 10 ms/)
})

test("a child is killed, paused and resumed by signals", async (t) => {
    const child = await startChild(t, program(waiting))
    await child.message("up")
    await child.pause()
    assert.equal(state(child.pid), "T")
    child.resume()
    await waitFor(() => state(child.pid) !== "T", { what: "it to go on" })
    assert.deepEqual(await child.kill("SIGTERM"), { code: null, signal: "SIGTERM" })
})

test("no child survives its test, be it paused or deaf to signals, nor do its own children", async (t) => {
    const pids = []
    await t.test("a test", async (inner) => {
        const deaf = await startChild(inner, program(`process.on("SIGTERM", () => {}); ${waiting}`))
        const paused = await startChild(inner, program(waiting))
        const parent = await startChild(inner, program(`
            import { spawn } from "node:child_process"
            const child = spawn("sleep", [ "600" ])
            process.send({ name: "up", pid: child.pid })`))
        await Promise.all([ deaf.message("up"), paused.message("up") ])
        await paused.pause()
        pids.push(deaf.pid, paused.pid, parent.pid, (await parent.message("up")).pid)
        assert.equal(survivors().length, 3)
        assert.ok(pids.every(alive))
    })
    assert.deepEqual(pids.filter(alive), [])
    assert.deepEqual(survivors(), [])
})

test("a child dies with a test process that is killed", async (t) => {
    const parent = await startChild(t, program(`
        import { startChild } from ${JSON.stringify(new URL("./children.mjs", import.meta.url).href)}
        const child = await startChild(undefined, ${JSON.stringify(program("setInterval(() => {}, 1000)"))})
        process.send({ name: "up", pid: child.pid })`))
    const { pid } = await parent.message("up")
    process.kill(parent.pid, "SIGKILL")
    await waitFor(() => !alive(pid), { what: "the reaper" })
})

test("waiting ends with what the condition gives, with its error as the cause, or at once when it is hopeless", async () => {
    let polls = 0
    assert.equal(await waitFor(() => ++polls === 3 && "third", { every: 1 }), "third")
    await assert.rejects(waitFor(() => { throw new Error("not yet") }, { timeout: 5, every: 1, what: "it" }), (error) =>
        error.message === "waited for it: not within 5 ms" && error.cause.message === "not yet")
    await assert.rejects(waitFor(() => false, { hopeless: () => "it is over" }), /waited for a condition: it is over/)
})

/** Runs a test file that watches for leaks and whose one test is `body`; gives its exit code and output. */
async function leaky (t, body, grace = 300) {
    const folder = mkdtempSync(join(tmpdir(), "imt-leaks-"))
    t.after(() => rmSync(folder, { recursive: true }))
    const file = join(folder, "leaky.test.mjs")
    writeFileSync(file, `
        import test from "node:test"
        import net from "node:net"
        import { spawn } from "node:child_process"
        import { watchLeaks } from ${JSON.stringify(new URL("./leaks.mjs", import.meta.url).href)}
        import { startChild } from ${JSON.stringify(new URL("./children.mjs", import.meta.url).href)}
        watchLeaks({ grace: ${grace} })
        test("a test", async (t) => { ${body} })
        test("another", () => {})`)
    return await new Promise((resolve) => {
        execFile(process.execPath, [ file ], { env: { ...process.env, NODE_TEST_CONTEXT: undefined } },
            (error, stdout, stderr) => resolve({ code: error?.code ?? 0, output: stdout + stderr }))
    })
}

test("a file that leaves nothing behind passes", async (t) => {
    const { code, output } = await leaky(t, "setTimeout(() => {}, 20); await startChild(t, \"data:text/javascript,setInterval(()=>{},9)\")", 5000)
    assert.equal(code, 0, output)
})

for (const [ what, body, message ] of [
    [ "a server", "net.createServer().listen(0)", /kept so by: .*TCPServerWrap/ ],
    [ "a timer", "setInterval(() => {}, 1000)", /kept so by: .*Timeout/ ],
    [ "a child", "await startChild(undefined, \"data:text/javascript,setInterval(()=>{},9)\")", /process \d+ was left behind/ ],
    [ "a detached process", "spawn(\"sleep\", [ \"60\" ], { stdio: \"ignore\" }).unref()", /process \d+ was left behind: sleep 60/ ],
    [ "an unhandled rejection", "setTimeout(() => Promise.reject(new Error(\"forgotten\")), 20)", /unhandled rejection: Error: forgotten/ ],
    [ "listeners that pile up", "for (let i = 0; i < 12; i++) process.on(\"x\", () => {})", /MaxListenersExceededWarning/ ]
])
    test(`a file that leaves ${what} behind fails`, async (t) => {
        const { code, output } = await leaky(t, body)
        assert.equal(code, 1, output)
        assert.match(output, message)
    })
