// What MQTT.js wants of a broker, in both versions; run by mqtt_js.rs with the broker's URL. Whatever hangs ends after 60 s.
"use strict";
const assert = require("node:assert/strict");
const mqtt = require("mqtt");

const url = process.argv[2];
let step = "start";
const patience = setTimeout(() => process.exit(1), 60_000);
process.on("exit", () => { if (step) { console.error("it ended at:", step); process.exitCode = 1; } });

/** A client whose messages wait in a queue. */
async function connect(version, who, options = {}) {
    const client = mqtt.connect(url, {
        protocolVersion: version, clientId: `${who}-${version}`, reconnectPeriod: 0, connectTimeout: 10_000, ...options,
    });
    const queue = [], waiting = [];
    client.on("message", (topic, payload, packet) => {
        const message = { topic, text: payload.toString(), qos: packet.qos, retain: packet.retain, properties: packet.properties };
        if (waiting.length) waiting.shift()(message); else queue.push(message);
    });
    client.next = () => queue.length ? Promise.resolve(queue.shift()) : new Promise((resolve) => waiting.push(resolve));
    client.connack = await new Promise((resolve, reject) => { client.once("connect", resolve); client.once("error", reject); });
    return client;
}

/** Options that keep the session. */
const kept = (version) => ({ clean: false, ...(version === 5 ? { properties: { sessionExpiryInterval: 600 } } : {}) });

async function everyQos(version) {
    const client = await connect(version, "echo");
    for (const granted of [0, 1, 2]) {
        await client.subscribeAsync("echo/é", { qos: granted });
        for (const qos of [0, 1, 2]) {
            await client.publishAsync("echo/é", `${granted}/${qos}`, { qos });
            const got = await client.next();
            assert.deepEqual([got.text, got.qos, got.topic], [`${granted}/${qos}`, Math.min(granted, qos), "echo/é"]);
        }
    }
    await client.subscribeAsync("many", { qos: 2 });
    const count = 500;
    const seen = [[], []];
    for (let start = 0; start < count; start += 100) { // MQTT.js does not heed the broker's receive maximum
        const batch = Array.from({ length: 100 }, (_, index) => start + index);
        const sent = batch.map((number) => client.publishAsync("many", String(number), { qos: 1 + number % 2 }));
        for (const _ of batch) {
            const got = await client.next();
            seen[got.qos - 1].push(Number(got.text));
        }
        await Promise.all(sent);
    }
    for (const qos of [0, 1]) assert.deepEqual(seen[qos], Array.from({ length: count / 2 }, (_, index) => 2 * index + qos));
    await client.unsubscribeAsync("many");
    await client.endAsync();
}

async function retained(version) {
    const publisher = await connect(version, "keeper");
    await publisher.publishAsync("kept/a", "old", { qos: 1, retain: true });
    await publisher.publishAsync("kept/a", "new", { qos: 1, retain: true });
    const subscriber = await connect(version, "late");
    await subscriber.subscribeAsync("kept/+", { qos: 1 });
    const got = await subscriber.next();
    assert.deepEqual([got.text, got.retain, got.qos], ["new", true, 1]);
    await publisher.publishAsync("kept/a", "", { qos: 1, retain: true });
    assert.deepEqual([(await subscriber.next()).text], [""]);
    await publisher.endAsync();
    await subscriber.endAsync();
}

async function wills(version) {
    const heir = await connect(version, "heir");
    await heir.subscribeAsync("will", { qos: 2 });
    const will = { topic: "will", payload: "gone", qos: 2, retain: false };
    const loser = await connect(version, "loser", { will });
    const closed = new Promise((resolve) => loser.once("close", resolve));
    loser.stream.destroy();
    await closed;
    const got = await heir.next();
    assert.deepEqual([got.text, got.qos], ["gone", 2]);
    await loser.endAsync(true);
    const leaver = await connect(version, "leaver", { will: { ...will, payload: "not this one" } });
    await leaver.endAsync();
    const other = await connect(version, "other");
    await other.publishAsync("will", "behind it", { qos: 2 });
    assert.equal((await heir.next()).text, "behind it");
    await other.endAsync();
    await heir.endAsync();
}

async function sessions(version) {
    const first = await connect(version, "sleeper", kept(version));
    assert.equal(first.connack.sessionPresent, false);
    await first.subscribeAsync("away", { qos: 1 });
    await first.endAsync();
    const publisher = await connect(version, "awake");
    for (let number = 0; number < 100; number++) await publisher.publishAsync("away", String(number), { qos: 1 });
    await publisher.endAsync();
    const second = await connect(version, "sleeper", { ...kept(version), resubscribe: false });
    assert.equal(second.connack.sessionPresent, true);
    for (let number = 0; number < 100; number++) assert.equal((await second.next()).text, String(number));
    // Its own reconnecting, after the connection was lost.
    second.options.reconnectPeriod = 50;
    const again = new Promise((resolve) => second.once("connect", resolve));
    second.stream.destroy();
    assert.equal((await again).sessionPresent, true);
    second.options.reconnectPeriod = 0;
    await second.publishAsync("away", "after all", { qos: 1 });
    assert.equal((await second.next()).text, "after all");
    await second.endAsync();
    const afresh = await connect(version, "sleeper");
    assert.equal(afresh.connack.sessionPresent, false);
    await afresh.endAsync();
}

async function propertiesOf5() {
    const client = await connect(5, "five", { properties: { receiveMaximum: 5, topicAliasMaximum: 3, requestProblemInformation: true } });
    await client.subscribeAsync("rich/#", { qos: 1, properties: { subscriptionIdentifier: 7 } });
    const given = {
        userProperties: { a: ["1", "3"], b: "2" }, contentType: "text/plain", responseTopic: "reply", correlationData: Buffer.from([0, 255]),
        messageExpiryInterval: 100, payloadFormatIndicator: true,
    };
    await client.publishAsync("rich/x", "hello", { qos: 1, properties: given });
    const got = (await client.next()).properties;
    assert.deepEqual({ ...got.userProperties }, given.userProperties);
    assert.deepEqual([got.contentType, got.responseTopic, got.payloadFormatIndicator], ["text/plain", "reply", true]);
    assert.deepEqual([...got.correlationData], [0, 255]);
    assert.ok(got.messageExpiryInterval > 60 && got.messageExpiryInterval <= 100);
    assert.equal(got.subscriptionIdentifier, 7);
    // Our own aliases, and the broker's.
    for (let number = 0; number < 20; number++) {
        const alias = 1 + number % 2;
        await client.publishAsync(number < 2 ? `rich/${alias}` : "", String(number), { qos: 1, properties: { topicAlias: alias } });
        const message = await client.next();
        assert.deepEqual([message.topic, message.text], [`rich/${alias}`, String(number)]);
    }
    await assert.rejects(client.publishAsync("$SYS/x", "no", { qos: 1 }));
    await client.endAsync();
    const anonymous = mqtt.connect(url, { protocolVersion: 5, clientId: "", reconnectPeriod: 0 });
    const connack = await new Promise((resolve, reject) => { anonymous.once("connect", resolve); anonymous.once("error", reject); });
    assert.ok(connack.properties.assignedClientIdentifier.length > 0);
    await anonymous.endAsync();
}

(async () => {
    for (const version of [4, 5]) {
        for (const part of [everyQos, retained, wills, sessions]) {
            step = `${part.name} ${version}`;
            await part(version);
        }
    }
    step = "properties of MQTT 5";
    await propertiesOf5();
    step = "";
    clearTimeout(patience);
    console.log("MQTT.js is content");
})().catch((error) => { console.error(step, error); process.exit(1); });
