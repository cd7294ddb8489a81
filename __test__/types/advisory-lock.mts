// Compiled, never run: the typings of ipc-mutex/advisory-lock in both its shapes, as a module sees them.
import advisoryLock, { mutexUrl, strToKey, type AdvisoryMutex, type CreateMutex, type LockName } from "ipc-mutex/advisory-lock"
import advisoryLock2, { type UnlockFunction } from "ipc-mutex/advisory-lock/v2"

const create: CreateMutex = advisoryLock("postgres://localhost/app")
const name: LockName = [ 1, -2 ]
const mutex: AdvisoryMutex = create(name)
const { withLock, tryLock, unlock, lockShared, unlockShared, tryLockShared, withLockShared } = mutex
const five: number = await withLock(() => 5)
const text: string = await withLockShared(async () => "text")
const nothing: undefined = await withLock()
const got: boolean = await tryLock() && await tryLockShared()
const given: boolean = await unlock() && await unlockShared()
const void1: void = await lockShared()
const key: [ number, number ] = strToKey("name")
const url: string = mutexUrl("", name)
// @ts-expect-error a connection string is a text
advisoryLock(5)
// @ts-expect-error a pair has two numbers
create([ 1 ])

const release: UnlockFunction | undefined = await advisoryLock2("")("x").tryLock()
const void2: void = await release?.()
const always: UnlockFunction = await advisoryLock2("")("x").lockShared()
export { five, text, nothing, got, given, void1, void2, key, url, always }
