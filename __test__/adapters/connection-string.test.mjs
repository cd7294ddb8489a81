// What connection strings and PG* variables mean, alone and on servers.
// time limit: 600 s
import { describe, test } from "node:test"
import assert from "node:assert/strict"
import { userInfo } from "node:os"
import advisoryLock, { mutexUrl, strToKey } from "ipc-mutex/advisory-lock"
import Mutex from "ipc-mutex"
import { watchLeaks } from "../support/leaks.mjs"
import { tlsFiles } from "../support/servers.mjs"
import { noLeftovers, postgres, took } from "../pgsql/patient.mjs"
import { conString, session } from "./databases.mjs"

watchLeaks()
for (const name of Object.keys(process.env).filter((each) => each.startsWith("PG")))
    delete process.env[name]
const me = userInfo().username

/** Sets environment variables for the time of a test. */
function environment (t, variables) {
    Object.assign(process.env, variables)
    t.after(() => Object.keys(variables).forEach((name) => delete process.env[name]))
}

/** What a connection string means: where, as whom, and the parameters. */
function meaning (text) {
    const [ , where, query ] = /^rpm\+pgsql:\/\/(.*)\/x\?(.*)$/.exec(mutexUrl(text, "x"))
    const { pair, tls, ...rest } = Object.fromEntries(new URLSearchParams(query))
    assert.equal(pair, strToKey("x").join(","))
    assert.equal(new Mutex(mutexUrl(text, "x")).id, "x")
    return [ where, ...(tls === "prefer" ? [] : [ `tls=${tls}` ]), ...Object.entries(rest).map(([ name, value ]) => `${name}=${value}`) ].join(" ")
}

describe("a connection string", () => {
    const examples = {
        "postgres://user:secret@db.example:5433/app": "user:secret@db.example:5433/app",
        "postgresql://db.example/app": `${me}@db.example/app`,
        "postgres://app@db.example": "app@db.example/app",
        "postgres://": `${me}@localhost/${me}`,
        "": `${me}@localhost/${me}`,
        "postgres://j%40ne:p%3As%2Fs@h/my%20db": "j%40ne:p%3As%2Fs@h/my%20db",
        "postgres://u:p@ss@h/d": "u:p%40ss@h/d",
        "postgres://u@[::1]:6000/d": "u@[::1]:6000/d",
        "postgres://u@a,b:2,c:3/d": "u@a,b:2,c:3/d",
        "postgres://u@a:1,b:2/d?connect_timeout=7&application_name=my%20app": "u@a:1,b:2/d connect_timeout=7 application_name=my app",
        "postgres:///d?host=/var/run/postgresql&user=u&port=5433": "u@%2Fvar%2Frun%2Fpostgresql:5433/d",
        "postgres://u@%2Fvar%2Frun/d": "u@%2Fvar%2Frun/d",
        "postgres://u@h/d?dbname=e&password=p": "u:p@h/e",
        "postgres://u@h/d?sslmode=disable": "u@h/d tls=undefined",
        "postgres://u@h/d?sslmode=require": "u@h/d tls=true",
        "postgres://u@h/d?sslmode=prefer": "u@h/d tls=true",
        "postgres://u@h/d?sslmode=no-verify": "u@h/d tls=insecure",
        "postgres://u@h/d?ssl=true": "u@h/d tls=true",
        "postgres://u@h/d?ssl=no-verify": "u@h/d tls=insecure",
        "postgres://u@h/d?ssl=0": "u@h/d tls=undefined",
        "postgres://u@h/d?sslrootcert=/ca.pem": "u@h/d tls=true ca=/ca.pem",
        "postgres://u@h/d?sslmode=require&uselibpqcompat=true": "u@h/d tls=insecure",
        "postgres://u@h/d?sslmode=verify-ca&sslrootcert=/ca.pem&uselibpqcompat=true": "u@h/d tls=verify-ca ca=/ca.pem",
        "pg://u:100%25sure%@h/d": "u:100%25sure%25@h/d",
        "postgres://u@h/d?sslmode=require&sslrootcert=/ca.pem": "u@h/d tls=true ca=/ca.pem",
        "postgres://u@h/d?sslmode=verify-ca&sslrootcert=/ca.pem": "u@h/d tls=true ca=/ca.pem",
        "postgres://u@h/d?sslmode=verify-full&sslrootcert=system": "u@h/d tls=true",
        "postgres://u@h/d?sslmode=verify-full&sslcert=/c.pem&sslkey=/k.pem": "u@h/d tls=true crt=/c.pem key=/k.pem",
        "postgres://u@h/d?connect_timeout=0": "u@h/d connect_timeout=3600",
        "host=h port=5433 dbname=d user=u password=p": "u:p@h:5433/d",
        "  host = h\tdbname='my db'  user=u password='it\\'s \\\\ok' ": "u:it's%20%5Cok@h/my%20db",
        "host=a,b port=1,2 user=u dbname=d": "u@a:1,b:2/d",
        "host=a,b port=7 user=u dbname=d": "u@a:7,b:7/d",
        "hostaddr=::1 user=u dbname=d password=''": "u@[::1]/d",
        "host=/run/pg user=u dbname=d password=a\\ b": "u:a%20b@%2Frun%2Fpg/d",
        "host=h user=u dbname=d keepalives=1 target_session_attrs=read-write": "u@h/d",
        " postgres://u@h/d\n": "u@h/d",
        "postgres://u@h/d?sslmode=require&channel_binding=require": "u@h/d tls=true",
        "postgres://u@h/d?channel_binding=prefer&gssencmode=prefer&sslnegotiation=postgres&ssl_min_protocol_version=TLSv1.2&sslsni=1": "u@h/d"
    }
    for (const [ text, wanted ] of Object.entries(examples))
        test(`may be ${text || "empty"}`, () => assert.equal(meaning(text), wanted))

    test("that makes no sense is refused at once, without its secrets", () => {
        const wrong = [ "hunter2", "localhost/app", "mysql://u:hunter2@h/d", "host=h password='hunter2", "host=h hunter2", "=hunter2",
            "postgres://u:hunter2@h:port/d", "postgres://u:hunter2@h:0/d", "postgres://u:hunter2@h:65536/d", "postgres://u:hunter2%ff@h/d",
            "postgres://u:hunter2@h/d?sslmode=hunter2", "postgres://u:hunter2@h/d?ssl=hunter2", "postgres://u:hunter2@h/d?hunter2", "postgres://u:hunter2@h/d?connect_timeout=hunter2",
            "postgres://u:hunter2@h/d?sslcert=/c.pem&sslmode=require", "postgres://u:hunter2@h1,h2:5/d?port=1,2,3", "host=h\0 password=hunter2" ]
        for (const text of wrong)
            assert.throws(() => advisoryLock(text), (error) => {
                assert.equal(error.code, "ERR_INVALID_URL", text)
                assert.match(error.message, /^invalid connection string: /)
                assert.doesNotMatch(`${error.stack}${error.cause}`, /hunter2/)
                return true
            }, text)
    })

    test("that asks for protection that there is not is refused, wherever it says so", (t) => {
        const asked = [ "sslmod=verify-full", "tls=true", "channel_binding=require", "channel_binding=require&sslmode=no-verify",
            "gssencmode=require", "require_auth=scram-sha-256",
            "sslnegotiation=direct", "sslcrl=/crl.pem", "sslcertmode=require", "requiressl=1", "requirepeer=postgres", "ssl_min_protocol_version=TLSv1.3",
            "sslpassword=hunter2", "passfile=/hunter2" ]
        for (const query of asked)
            assert.throws(() => advisoryLock(`postgres://u@h/d?${query}`), (error) => {
                assert.equal(error.code, "ERR_INVALID_URL", query)
                assert.match(error.message, new RegExp(`parameter "${query.split("=")[0]}"`))
                assert.doesNotMatch(`${error.stack}${error.cause}`, /hunter2/)
                return true
            }, query)
        environment(t, { PGREQUIREAUTH: "scram-sha-256" })
        assert.throws(() => advisoryLock("postgres://u@h/d"), { code: "ERR_INVALID_URL" })
    })

    test("that is missing is one that leaves everything to the environment; one of another type is refused", () => {
        assert.equal(meaning(undefined), meaning(""))
        for (const text of [ null, 5, new URL("postgres://h/d") ])
            assert.throws(() => advisoryLock(text), { name: "TypeError", code: "ERR_INVALID_ARG_TYPE" })
    })

    test("with an unknown parameter is a warning, which names it", async (t) => {
        const warnings = []
        const listen = ({ name, code, message }) => { // not Node's own
            if (name === "MutexWarning")
                warnings.push(`${code} ${message}`)
        }
        process.on("warning", listen)
        t.after(() => process.off("warning", listen))
        mutexUrl("postgres://u@h/d?frob=hunter2", "x")
        await new Promise((resolve) => setImmediate(resolve))
        assert.deepEqual(warnings, [ "IPC_MUTEX_UNKNOWN_PARAMETER parameter \"frob\" of a connection string is ignored" ])
    })
})

describe("the PG* environment variables", () => {
    const all = { PGHOST: "env.example", PGPORT: "6000", PGDATABASE: "envdb", PGUSER: "envuser", PGPASSWORD: "env pw", PGSSLMODE: "verify-full",
        PGSSLROOTCERT: "/env/ca.pem", PGSSLCERT: "/env/c.pem", PGSSLKEY: "/env/k.pem", PGCONNECT_TIMEOUT: "9", PGAPPNAME: "env app" }

    test("fill what is missing", (t) => {
        environment(t, all)
        assert.equal(meaning(""), "envuser:env%20pw@env.example:6000/envdb tls=true ca=/env/ca.pem crt=/env/c.pem key=/env/k.pem "
            + "connect_timeout=9 application_name=env app")
    })

    test("do not replace what is given", (t) => {
        environment(t, all)
        assert.equal(meaning("postgres://u:p@h:1/d?sslmode=disable&connect_timeout=3&application_name=a"),
            "u:p@h:1/d tls=undefined connect_timeout=3 application_name=a")
        assert.equal(meaning("dbname=d sslmode=disable"), "envuser:env%20pw@env.example:6000/d tls=undefined connect_timeout=9 application_name=env app")
    })

    test("PGHOSTADDR says where a host is not named, and an empty variable counts as not set", (t) => {
        environment(t, { PGHOSTADDR: "10.0.0.1", PGUSER: "", PGPORT: "" })
        assert.equal(meaning("dbname=d"), `${me}@10.0.0.1/d`)
        assert.equal(meaning("host=h dbname=d"), `${me}@h/d`)
    })
})

/** Whether a lock is taken through `text` that plain SQL at `server` then finds taken. */
async function locks (t, server, text) {
    const { lock, unlock } = advisoryLock(text)(t.name)
    await lock()
    const taken = (await server.admin.locks()).length === 1
    await unlock()
    return taken
}

describe("on a server", () => {
    test("pairs, variables and a socket's folder lead to the same locks", async (t) => {
        const server = await postgres(t, { password: "it's a \\ secret", database: "my app" })
        const sql = session(t, server)
        environment(t, { PGPASSWORD: server.password })
        const pairs = `host=127.0.0.1 port=${server.port} user=${server.user} dbname='my app' connect_timeout=30`
        const [ first, second ] = [ pairs, conString(server) ].map((text) => advisoryLock(text)(t.name))
        assert.equal(await first.tryLock(), true)
        assert.equal(await second.tryLock(), false)
        assert.equal(await sql.tryLock(strToKey(t.name)), false)
        await first.unlock()
        const socket = advisoryLock(`host='${server.folder}' port=${server.port} user=support dbname='my app' connect_timeout=30`)(t.name)
        assert.equal(await socket.tryLock(), true)
        assert.equal(await sql.tryLock(strToKey(t.name)), false)
        await socket.unlock()
        sql.disconnect()
        await noLeftovers(server)
    })

    test("the first host that answers is taken, and application_name is what the server shows", async (t) => {
        const server = await postgres(t, { password: true })
        const text = conString(server, { application_name: "night shift" }).replace("@", "@127.0.0.1:1,")
        const { lock, unlock } = advisoryLock(text)(t.name)
        await lock()
        assert.deepEqual((await server.admin.sessions()).map(({ application }) => application), [ "night shift" ])
        await unlock()
        await noLeftovers(server)
    })

    test("without TLS, only a string that asks for none goes on in plain text", async (t) => {
        const server = await postgres(t, { password: true })
        assert.equal(await locks(t, server, conString(server, { sslmode: "disable" })), true)
        assert.equal(await locks(t, server, conString(server)), true)
        for (const params of [ { sslmode: "require" }, { sslmode: "prefer" }, { ssl: "no-verify" }, { ssl: "true" } ])
            await assert.rejects(locks(t, server, conString(server, params)), { code: "ERR_TLS" }, JSON.stringify(params))
    })

    test("with TLS, each sslmode verifies what it promises", async (t) => {
        const server = await postgres(t, { password: true, tls: true })
        const { ca, unknownCa } = tlsFiles
        const good = [ {}, { sslmode: "no-verify" }, { ssl: "no-verify" }, { sslmode: "require", sslrootcert: ca }, { sslmode: "prefer", sslrootcert: ca },
            { sslmode: "verify-ca", sslrootcert: ca }, { sslmode: "verify-full", sslrootcert: ca } ]
        for (const params of good)
            assert.equal(await locks(t, server, conString(server, params)), true, JSON.stringify(params))
        for (const sslmode of [ "require", "verify-ca", "verify-full" ])
            await assert.rejects(locks(t, server, conString(server, { sslmode, sslrootcert: unknownCa })), { code: "ERR_TLS" }, sslmode)
        for (const params of [ { sslmode: "verify-full" }, { sslmode: "require" }, { sslmode: "prefer" }, { ssl: "true" } ])
            await assert.rejects(locks(t, server, conString(server, params)), { code: "ERR_TLS" }, JSON.stringify(params))
        await assert.rejects(locks(t, server, conString(server, { sslmode: "disable" })), { code: "ERR_AUTH" })
    })

    test("libpq's verify-ca accepts a certificate for another host name, all others do not, and none an expired one", async (t) => {
        const { ca } = tlsFiles
        const elsewhere = await postgres(t, { password: true, tls: "wrong-name" })
        assert.equal(await locks(t, elsewhere, conString(elsewhere, { sslmode: "verify-ca", sslrootcert: ca, uselibpqcompat: true })), true)
        await assert.rejects(locks(t, elsewhere, conString(elsewhere, { sslmode: "verify-ca", sslrootcert: ca })), { code: "ERR_TLS" })
        await assert.rejects(locks(t, elsewhere, conString(elsewhere, { sslmode: "verify-full", sslrootcert: ca })), { code: "ERR_TLS" })
        const expired = await postgres(t, { password: true, tls: "expired" })
        for (const sslmode of [ "verify-ca", "verify-full" ])
            await assert.rejects(locks(t, expired, conString(expired, { sslmode, sslrootcert: ca })), { code: "ERR_TLS" })
        assert.equal(await locks(t, expired, conString(expired, { sslmode: "no-verify" })), true)
    })

    test("a client's certificate is shown where the server wants one", async (t) => {
        const server = await postgres(t, { password: true, tls: true, clientCert: true })
        const { ca, crt, key } = tlsFiles
        const params = { sslmode: "verify-full", sslrootcert: ca }
        assert.equal(await locks(t, server, conString(server, { ...params, sslcert: crt, sslkey: key })), true)
        await assert.rejects(locks(t, server, conString(server, params)), { name: "MutexError" })
    })

    test("connect_timeout ends an attempt at a server that does not answer", async (t) => {
        const server = await postgres(t, { password: true })
        await server.pause()
        const time = await took(assert.rejects(locks(t, server, conString(server, { connect_timeout: 1 })), { code: "ERR_CONNECT" }))
        assert.ok(time < 5000, `rejected after ${time} ms`)
        await server.resume()
    })
})

