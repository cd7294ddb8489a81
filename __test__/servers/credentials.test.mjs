// The option `credentials`: a function of the program that says user and password for each new connection.
// time limit: 900 s
import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { inspect } from "node:util"
import { Mutex } from "../../index.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { startProxy } from "../support/proxy.mjs"
import { servers } from "../support/servers.mjs"

watchLeaks()

/** How each server knows who may: the options it is started with, and what a connection then says. */
const KINDS = {
    consul: [ { password: true }, ({ password }) => ({ password }) ],
    redis: [ { password: true }, (server) => ({ password: server.password }) ],
    pgsql: [ { password: true }, (server) => ({ user: server.user, password: server.password }) ],
    etcd: [ { password: true }, (server) => ({ user: server.user, password: server.password }) ]
}

for (const [ name, [ options, right ] ] of Object.entries(KINDS))
    describe(`credentials on ${name}`, () => {
        test("are asked for with each new connection, on the thread of the program, and win over those of the URL", async (t) => {
            const server = await servers[name](t, options)
            const proxy = await startProxy(server, t)
            let asked = 0
            const credentials = async () => {
                asked++
                await new Promise(setImmediate)
                return right(server)
            }
            const url = server.url("foo", { ttl: name === "consul" ? 10 : 3 }, { user: "nobody", password: "wrong", port: proxy.port })
            const mutex = new Mutex(url, { credentials }), other = new Mutex(url, { credentials })
            await Promise.all([ mutex.open(), other.open() ])
            t.after(() => Promise.all([ mutex.close(), other.close() ]))
            await (await mutex.lock()).release()
            assert.ok(asked >= 1)
            const before = asked
            proxy.reset()
            await (await other.lock({ timeout: 60_000 })).release()
            // There, the token outlives the connection.
            if (![ "consul", "etcd" ].includes(name))
                assert.ok(asked > before, "a new connection is made with credentials of now")
            assert.doesNotMatch(inspect([ mutex, other ], { depth: 9, showHidden: true }), new RegExp(server.password))
        })

        test("that cannot be had are told, and those that are wrong are refused without being shown", async (t) => {
            const server = await servers[name](t, options)
            const opening = async (credentials) => {
                const mutex = new Mutex(server.url("foo", {}, { user: undefined, password: undefined }), { credentials })
                try {
                    await mutex.open()
                    await (await mutex.lock()).release()
                }
                catch (error) {
                    return error
                }
                finally {
                    await mutex[Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]()
                }
                return assert.fail("opened")
            }
            const failed = await opening(() => { throw new Error("vault is sealed") })
            assert.deepEqual([ failed.code, failed.cause.message ], [ "ERR_AUTH", "vault is sealed" ])
            for (const thrown of [ undefined, Object.create(null), { get message () { throw new Error("hunter2") } } ])
                assert.equal((await opening(() => Promise.reject(thrown))).code, "ERR_AUTH")
            for (const given of [ 5, null, { user: 5 }, { password: "hunter2\0" }, { password: "hunter2".repeat(1_000_000) } ]) {
                const refused = await opening(() => given)
                assert.equal(refused.code, "ERR_AUTH")
                assert.doesNotMatch(inspect(refused, { depth: 9 }), /hunter2/)
            }
            const wrong = await opening(() => ({ ...right(server), password: "sesame-hunter2" }))
            assert.equal(wrong.code, "ERR_AUTH")
            assert.doesNotMatch(inspect(wrong, { depth: 9 }), /hunter2/)
        })
    })

test("credentials are for locks on servers", () => {
    assert.throws(() => new Mutex("spm:foo", { credentials () {} }), { code: "ERR_INVALID_ARG_TYPE" })
})
