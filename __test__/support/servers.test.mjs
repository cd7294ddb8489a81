// The servers of the tests, each of them started many times.
// time limit: 600 s
import test from "node:test"
import assert from "node:assert/strict"
import { existsSync, readFileSync, readdirSync } from "node:fs"
import { once } from "node:events"
import { tmpdir } from "node:os"
import { join } from "node:path"
import net from "node:net"
import tls from "node:tls"
import { PgClient } from "./clients/pg.mjs"
import { RespClient } from "./clients/resp.mjs"
import { exchange, json } from "./clients/http.mjs"
import { alive } from "./processes.mjs"
import { startChild } from "./children.mjs"
import { waitFor } from "./waiting.mjs"
import { watchLeaks } from "./leaks.mjs"
import { consul, etcd, noLeftovers, pgbouncer, postgres, redis, servers, tlsFiles } from "./servers.mjs"

watchLeaks()

/** Leaves something at a server, and sees whether it is there. */
const mark = {
    redis: async (server) => { await server.admin.command("SET", "mark", "1") },
    pgsql: async (server) => { await server.admin.query("CREATE TABLE mark ()") },
    etcd: async (server) => { await server.admin.put("mark", "1") },
    consul: async (server) => { await server.admin.call("PUT", "/v1/kv/mark", 1) }
}
const marked = {
    redis: async (server) => await server.admin.command("EXISTS", "mark") === 1,
    pgsql: async (server) => (await server.admin.query("SELECT to_regclass('mark')"))[0][0] === "mark",
    etcd: async (server) => (await server.admin.keys()).some(({ key }) => key === "mark"),
    consul: async (server) => (await server.admin.keys()).some(({ key }) => key === "mark")
}

for (const [ name, start ] of Object.entries(servers)) {
    test(`${name} keeps port and data over stop, SIGKILL and start, and loses the data when wiped`, async (t) => {
        const server = await start(t, { persistent: true })
        const { port, pid } = server
        assert.equal(server.name, name)
        await mark[name](server)
        await server.stop()
        assert.equal(server.pid, undefined)
        assert.equal(alive(pid), false)
        await assert.rejects(marked[name](server))
        await server.start()
        assert.equal(await marked[name](server), true)
        await server.kill()
        await server.start()
        assert.equal(await marked[name](server), true)
        assert.equal(server.port, port)
        assert.notEqual(server.pid, pid)
        await server.restart({ wipe: true })
        assert.equal(await marked[name](server), false)
        await noLeftovers(server)
        const last = server.pid
        await server.close()
        assert.equal(alive(last), false)
        assert.equal(existsSync(server.folder), false)
    })

    test(`a paused ${name} accepts connections and answers nothing until it is resumed`, async (t) => {
        const server = await start(t)
        await server.pause()
        const socket = net.connect(server.port, "127.0.0.1")
        t.after(() => socket.destroy())
        await once(socket, "connect")
        let answered = false
        const answer = server.answers().finally(() => { answered = true })
        // a sentence in the server's own language; only a server that runs would answer
        socket.write({ redis: "PING\r\n", pgsql: "\0\0\0\x08\x04\xd2\x16\x2f" }[name] ?? "GET / HTTP/1.0\r\n\r\n")
        const answers = once(socket, "data").then(() => "answer")
        assert.equal(await Promise.race([ answers, new Promise((resolve) => setTimeout(resolve, 200, "silence")) ]), "silence")
        assert.equal(answered, false)
        const data = once(socket, "data")
        await server.resume()
        await data
        await answer
    })

    test(`connections to ${name} are counted, and noLeftovers fails with a list of what is there`, async (t) => {
        const server = await start(t)
        await noLeftovers(server)
        const socket = net.connect(server.port, "127.0.0.1")
        t.after(() => socket.destroy())
        await once(socket, "connect")
        // a server's own connections to itself come and go, and the kernel's lists are read one after the other
        await waitFor(async () => await server.connections() === 1, { what: "one connection" })
        await mark[name](server)
        await assert.rejects(noLeftovers(server, { timeout: 100 }), (error) => error.code === "ERR_ASSERTION"
            && error.message.includes("1 open connection") && (name === "pgsql" || error.message.includes("key mark")))
        assert.deepEqual((await server.leftovers({ connections: false, ignore: /mark/ })), [])
        socket.destroy()
        await waitFor(async () => await server.connections() === 0, { what: "the connection to end" })
    })

    test(`${name} shows the wanted certificate, and wants the client's`, async (t) => {
        const talk = async (server, options) => {
            const plain = net.connect(server.port, "127.0.0.1")
            t.after(() => plain.destroy())
            await once(plain, "connect")
            if (name === "pgsql") {
                plain.write(Buffer.from([ 0, 0, 0, 8, 4, 210, 22, 47 ])) // the request for TLS
                assert.equal(String((await once(plain, "data"))[0]), "S")
            }
            const socket = tls.connect({ socket: plain, host: "localhost", servername: "localhost", ...options })
            t.after(() => socket.destroy())
            const login = Buffer.from("\0\0\0\0\0\x03\0\0user\0tester\0database\0template1\0\0")
            login[3] = login.length
            return await new Promise((resolve) => {
                socket.on("error", (error) => resolve(error.code))
                socket.on("close", () => resolve("closed"))
                socket.on("data", (data) => resolve(name === "pgsql" && data[0] === 69 /* E: error */ ? "refused" : "answer"))
                socket.on("secureConnect", () => socket.write({ redis: "PING\r\n", pgsql: login }[name] ?? "GET /health HTTP/1.0\r\n\r\n"))
            })
        }
        const ca = readFileSync(tlsFiles.ca)
        const own = { cert: readFileSync(tlsFiles.crt), key: readFileSync(tlsFiles.key) }
        const [ strict, expired, wrong ] = await Promise.all([ { tls: true, clientCert: true }, { tls: "expired" }, { tls: "wrong-name" } ]
            .map((options) => start(t, options)))
        const url = new URL(strict.url("foo"))
        assert.deepEqual([ ...url.searchParams ], [ [ "tls", "true" ], [ "ca", tlsFiles.ca ], [ "crt", tlsFiles.crt ], [ "key", tlsFiles.key ] ])
        assert.equal(await talk(strict, { ca, ...own }), "answer")
        assert.match(await talk(strict, { ca: readFileSync(tlsFiles.unknownCa), ...own }), /UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED_CERT_IN_CHAIN/)
        for (const other of [ {}, { cert: readFileSync(tlsFiles.unknownCrt), key: readFileSync(tlsFiles.unknownKey) } ])
            assert.notEqual(await talk(strict, { ca, ...other }), "answer")
        assert.equal(await talk(expired, { ca }), "CERT_HAS_EXPIRED")
        assert.equal(await talk(wrong, { ca }), "ERR_TLS_CERT_ALTNAME_INVALID")
    })
}

test("Redis without persistence loses its data with a restart", async (t) => {
    const server = await redis(t)
    await mark.redis(server)
    await server.restart()
    assert.equal(await marked.redis(server), false)
})

test("Redis wants the password, or the ACL user's, and its URL has it", async (t) => {
    const attempt = async (server, login) => {
        const client = new RespClient({ host: server.host, port: server.port }, login)
        t.after(() => client.disconnect())
        return await client.command("GET", "x").catch((error) => error.message.split(" ")[0])
    }
    const simple = await redis(t, { password: "p@ss/word" })
    assert.equal(simple.url("foo"), `rpm+redis://x:p%40ss%2Fword@127.0.0.1:${simple.port}/foo`)
    assert.equal(await attempt(simple, [ "p@ss/word" ]), null)
    assert.equal(await attempt(simple, [ "other" ]), "NOAUTH")
    const acl = await redis(t, { user: "ann", password: "secret" })
    assert.equal(acl.url("foo"), `rpm+redis://x:secret@127.0.0.1:${acl.port}/foo?user=ann`)
    assert.equal(await attempt(acl, [ "ann", "secret" ]), null)
    assert.equal(await attempt(acl, [ "secret" ]), "NOAUTH")
})

test("Redis counts commands and lists clients, but not those of the tests' own view", async (t) => {
    const server = await redis(t)
    const client = new RespClient({ host: server.host, port: server.port })
    t.after(() => client.disconnect())
    await client.command("CLIENT", "SETNAME", "me")
    await server.admin.command("CONFIG", "RESETSTAT")
    await client.command("SET", "a", 1)
    await client.command("SET", "b", 1)
    assert.equal((await server.admin.commandCounts()).set, 2)
    assert.deepEqual((await server.admin.clients()).map(({ name }) => name), [ "me" ])
    await client.command("SELECT", 3)
    await client.command("SET", "c", 1)
    assert.deepEqual((await server.admin.traces()).sort(), [ "key a", "key b", "key c in database 3" ])
})

for (const auth of [ "scram", "md5", "password" ])
    test(`PostgreSQL wants the password by ${auth}, in a database of its own`, async (t) => {
        const server = await postgres(t, { auth, password: "it's", database: "locks" })
        assert.equal(server.url("foo", { tls: "insecure" }), `rpm+pgsql://tester:it's@127.0.0.1:${server.port}/locks/foo?tls=insecure`)
        const client = (password) => {
            const made = new PgClient({ host: server.host, port: server.port }, { user: "tester", database: "locks", password })
            t.after(() => made.disconnect())
            return made
        }
        assert.deepEqual(await client("it's").query("SELECT current_user, NULL, 1 + 1"), [ [ "tester", null, "2" ] ])
        await assert.rejects(client("its").query("SELECT 1"), { code: "28P01" })
    })

test("PostgreSQL lists sessions and advisory locks, ends sessions, and has a read-only standby", async (t) => {
    const server = await postgres(t)
    const client = new PgClient({ host: server.host, port: server.port }, { user: server.user, application: "me" })
    t.after(() => client.disconnect())
    await client.query("SELECT pg_advisory_lock(-5)")
    assert.deepEqual(await server.admin.locks(), [ { pid: client.pid, key: -5n, pair: false, mode: "ExclusiveLock", granted: true } ])
    assert.deepEqual((await server.admin.sessions()).map(({ pid, application, state }) => ({ pid, application, state })),
        [ { pid: client.pid, application: "me", state: "idle" } ])
    await waitFor(async () => (await server.leftovers()).length === 2, { what: "the lock and the connection to be left behind" })
    await assert.rejects(client.query("SELECT nonsense"), { code: "42703" })
    await server.admin.terminate()
    await noLeftovers(server)
    const standby = await postgres(t, { standby: true })
    await assert.rejects(standby.admin.query("CREATE TABLE t ()"), { code: "25006" })
})

test("PgBouncer in transaction mode gives each transaction any session, so a session's lock is not there again", async (t) => {
    const server = await postgres(t)
    const pool = await pgbouncer(t, server)
    assert.equal(pool.url("foo"), `rpm+pgsql://tester@127.0.0.1:${pool.port}/foo`)
    const [ one, two ] = [ 0, 1 ].map(() => new PgClient({ host: pool.host, port: pool.port }, { user: pool.user }))
    t.after(() => one.disconnect())
    t.after(() => two.disconnect())
    await one.query("SELECT pg_advisory_lock(1)")
    assert.deepEqual(await two.query("SELECT pg_advisory_unlock(1)"), [ [ "t" ] ], "another client has the same session")
})

test("etcd runs as a cluster that survives its leader, and its URL names all nodes", async (t) => {
    const server = await etcd(t, { nodes: 3, password: true })
    assert.equal(server.url("foo"), `rpm+etcd://tester:${server.password}@${server.nodes.map(({ port }) => `127.0.0.1:${port}`).join(",")}/foo`)
    assert.equal(server.url("foo", { ttl: 5 }, { port: 1, user: undefined, password: undefined }), "rpm+etcd://127.0.0.1:1/foo?ttl=5")
    await mark.etcd(server)
    const leader = await waitFor(async () => {
        for (const node of server.nodes)
            if (await node.leads())
                return node
    }, { what: "a leader", timeout: 60_000 })
    await leader.kill()
    await waitFor(() => marked.etcd(server), { what: "a new leader", timeout: 60_000 })
    await leader.start()
    assert.notEqual(leader.pid, undefined)
    const refused = await exchange({ host: "127.0.0.1", port: server.port }, "POST", "/v3/kv/range", { body: "{\"key\":\"AA==\"}" })
    assert.notEqual(refused.status, 200, "without a password")
    const { token } = await waitFor(() => json({ host: "127.0.0.1", port: server.port }, "POST", "/v3/auth/authenticate",
        { body: { name: "tester", password: server.password } }), { what: "the password to be taken", timeout: 60_000 })
    assert.equal(typeof token, "string")
})

test("Consul's token opens keys and sessions, and nothing is open without", async (t) => {
    const server = await consul(t, { acl: true })
    assert.equal(server.url("foo"), `rpm+consul://x:${server.password}@127.0.0.1:${server.port}/foo`)
    const target = { host: server.host, port: server.port }
    await assert.rejects(json(target, "PUT", "/v1/session/create", { body: {} }), { status: 403 })
    const { ID } = await json(target, "PUT", "/v1/session/create", { body: { Name: "mine" }, headers: { "x-consul-token": server.password } })
    await waitFor(async () => {
        assert.deepEqual(await server.leftovers(), [ `session ${ID} mine` ])
        return true
    }, { what: "nothing but the session to be left behind" })
    await server.admin.destroy(ID)
    await noLeftovers(server)
})

test("a test process that is killed leaves no server, no folder and no port behind", async (t) => {
    const program = `
        import { startPostgres, startRedis } from ${JSON.stringify(new URL("./servers.mjs", import.meta.url).href)}
        const all = await Promise.all([ startRedis(), startPostgres() ])
        process.send({ name: "up", servers: all.map(({ pid, folder, port }) => ({ pid, folder, port })) })
        setInterval(() => {}, 1000)`
    const child = await startChild(t, `data:text/javascript,${encodeURIComponent(program)}`)
    const up = await child.message("up", { timeout: 120_000 })
    // another test process may take a port as soon as it is free
    const taken = (port) => {
        try {
            return readFileSync(join(tmpdir(), "ipc-mutex-test-ports", String(port)), "utf8") === String(child.pid)
        }
        catch {
            return false
        }
    }
    for (const { pid, folder, port } of up.servers)
        assert.deepEqual([ alive(pid), existsSync(folder), taken(port) ], [ true, true, true ])
    process.kill(child.pid, "SIGKILL")
    await child.exit({ timeout: 60_000 }) // the reaper has its error output, too
    await waitFor(() => up.servers.every(({ pid, folder, port }) => !alive(pid) && !existsSync(folder) && !taken(port)),
        { what: "the reaper", timeout: 60_000 })
})

test("two servers that start at once have ports and folders of their own", async (t) => {
    const all = await Promise.all([ redis(t), redis(t), redis(t) ])
    assert.equal(new Set(all.map(({ port }) => port)).size, 3)
    assert.equal(new Set(all.map(({ folder }) => folder)).size, 3)
    assert.ok(readdirSync(all[0].folder).includes("redis.conf"))
})

test("a server that cannot start says why", async (t) => {
    await assert.rejects(redis(t, { config: [ "nonsense yes" ] }), /it has ended[^]*nonsense/)
})
