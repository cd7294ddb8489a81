// The same for ECMAScript modules; index.d.ts has the documentation.
import Mutex = require("./index.js")

export default Mutex
export { Mutex }
export import LockManager = Mutex.LockManager
export import MutexError = Mutex.MutexError
export type MutexErrorCode = Mutex.MutexErrorCode
export type MutexOptions = Mutex.MutexOptions
export type TryOptions = Mutex.TryOptions
export type AcquireOptions = Mutex.AcquireOptions
export type LockManagerOptions = Mutex.LockManagerOptions
export type LockOptions = Mutex.LockOptions
export type RequestOptions = Mutex.RequestOptions
export type NamedLockInfo = Mutex.NamedLockInfo
export type LockManagerSnapshot = Mutex.LockManagerSnapshot
export type Lock = Mutex.Lock
export type LockSet = Mutex.LockSet
export type LockInfo = Mutex.LockInfo
export type HoldInfo = Mutex.HoldInfo
export type Snapshot = Mutex.Snapshot
export type Events = Mutex.Events
export type Credentials = Mutex.Credentials
export type AcquireMessage = Mutex.AcquireMessage
export type HoldMessage = Mutex.HoldMessage
export type WithReleaseError = Mutex.WithReleaseError
