import aggregate from '../../src/transforms/aggregate.ts'
import cast from '../../src/transforms/cast.ts'
import dedupe from '../../src/transforms/dedupe.ts'
import derive from '../../src/transforms/derive.ts'
import filter from '../../src/transforms/filter.ts'
import join from '../../src/transforms/join.ts'
import lookup from '../../src/transforms/lookup.ts'
import map from '../../src/transforms/map.ts'
import mask from '../../src/transforms/mask.ts'
import rename from '../../src/transforms/rename.ts'
import sql from '../../src/transforms/sql.ts'
import window from '../../src/transforms/window.ts'
import { stepSuite } from './suites/step.ts'

stepSuite('aggregate', aggregate)
stepSuite('cast', cast)
stepSuite('dedupe', dedupe)
stepSuite('derive', derive)
stepSuite('filter', filter)
stepSuite('join', join)
stepSuite('lookup', lookup)
stepSuite('map', map)
stepSuite('mask', mask)
stepSuite('rename', rename)
stepSuite('sql', sql)
stepSuite('window', window)
