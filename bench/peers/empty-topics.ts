/** Before each run of bench/stores/kafka.ts: `empty-topics.ts BROKERS` leaves an empty topic for the tool, and none for adflow. */
import kafkajs from 'kafkajs'

const [brokers = ''] = process.argv.slice(2)
const admin = new kafkajs.Kafka({ brokers: brokers.split(','), logLevel: kafkajs.logLevel.NOTHING }).admin()
await admin.connect()
const there = await admin.listTopics()
const old = ['events', '_adflow_batches.events', 'copied'].filter((topic) => there.includes(topic))
if (old.length > 0) await admin.deleteTopics({ topics: old })
await admin.createTopics({ topics: [{ topic: 'copied' }], waitForLeaders: true })
await admin.disconnect()
