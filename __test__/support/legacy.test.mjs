import test from "node:test"
import assert from "node:assert/strict"
import { History, check } from "./history.mjs"
import { legacy, legacyNumber } from "./legacy.mjs"
import { watchLeaks } from "./leaks.mjs"
import { noLeftovers, servers } from "./servers.mjs"

watchLeaks()

test("an id's PostgreSQL number is that of 1.1.2", () => {
    const numbers = [ "foo", "test", "leader-election", "my_lock" ].map(legacyNumber)
    assert.deepEqual(numbers, [ 1467327550, 2619831090, 3597615033, 2692244975 ])
})

for (const [ name, start ] of Object.entries(servers)) {
    test(`contenders of the 1.1.2 kind exclude each other on ${name}`, async (t) => {
        const server = await start(t)
        const history = new History()
        await Promise.all([ "a", "b", "c" ].map(async (owner) => {
            const mutex = legacy(server)
            for (let round = 0; round < 3; round++) {
                history.ask("foo", owner)
                await mutex.acquire("foo")
                history.grant("foo", owner)
                await new Promise((resolve) => setImmediate(resolve))
                history.release("foo", owner)
                await mutex.release("foo")
            }
            await mutex.close()
        }))
        assert.equal(check(history, { order: "none" }).grants, 9)
        await noLeftovers(server, { ignore: /^key IPC-Mutex-RPM\/foo\/leader$/ }) // Consul's key stays when it is released
    })

    test(`a held lock refuses a second contender of the 1.1.2 kind on ${name}, and shows at the server`, async (t) => {
        const server = await start(t, { password: true })
        const [ one, two ] = [ legacy(server), legacy(server) ]
        assert.equal(await one.tryAcquire("foo"), true)
        assert.equal(await two.tryAcquire("foo"), false)
        const left = (await server.leftovers()).join("\n")
        assert.match(left, { redis: /key foo\/lock\.IPC-Mutex-rpm/, pgsql: /advisory lock 1467327550 ExclusiveLock held/,
            consul: /key IPC-Mutex-RPM\/foo\/leader of session .*\n.*session .* IPC-Mutex-RPM\/foo\/session/, etcd: /key IPC-Mutex-RPM-foo-lock\nlease \d+/ }[name])
        await one.release("foo")
        await assert.rejects(one.release("foo"))
        await two.acquire("foo")
        await two.release("foo")
        await one.close()
        await two.close()
    })
}
