-- The state of one lock, as every script here sees it, and its changes. Put behind words.lua.

local micros = read_clock()
local now = math.floor(micros / 1000)

-- Who has the lock: 'free', 'exclusive' (by `holder`, with `token`), 'shared' or 'foreign'.
local state, holder, token
do
    local value = call('GET', MAIN)
    if not value then
        state = 'free'
    elseif value == SHARED then
        state = 'shared'
    else
        holder, token = string.match(value, '^ipc%-mutex:x (%S+) (%S+) ')
        state = holder and 'exclusive' or 'foreign'
    end
end

-- Lets an auxiliary key live at least `ttl` ms from now, and a second more than what it tells of.
local function keep (key, ttl)
    local wanted = ttl + 1000
    local left = call('PTTL', key)
    if left ~= -2 and left < wanted then
        call('PEXPIRE', key, text(wanted))
    end
end

local function take_exclusive (owner, minted, ttl, info)
    hold(owner, minted, ttl, info)
    remember(minted)
    state, holder, token = 'exclusive', owner, minted
end

-- The main key lasts as long as the longest-lived reader.
local function stretch ()
    local last = call('ZREVRANGE', READERS, 0, 0, 'WITHSCORES')[2]
    call('SET', MAIN, SHARED, 'PX', text(math.max(tonumber(last) - now, 1)))
end

local function take_shared (owner, fenced, minted, ttl, channel, info)
    remember(minted)
    call('ZADD', READERS, text(now + ttl), owner)
    call('HSET', INFO, owner, table.concat({ 's', fenced, ttl, channel, minted, info }, ' '))
    keep(READERS, tonumber(ttl))
    keep(INFO, tonumber(ttl))
    stretch()
    state, holder, token = 'shared', nil, minted
end

-- Whether there may be another first waiter than before, who does not know it yet: see tell_first().
local first_changed = false

local function forget_waiter (owner)
    call('ZREM', BEATS, owner)
    call('HDEL', INFO, owner)
    return call('ZREM', QUEUE, owner) == 1
end

local function forget_readers (owners)
    for _, owner in ipairs(owners) do
        call('ZREM', READERS, owner)
        call('HDEL', INFO, owner)
    end
end
