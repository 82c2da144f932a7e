/** The fixed world of a sample: campaigns, publishers, places, devices. */
import { keyOf } from './random.ts'

export interface Campaign {
  readonly id: number
  readonly name: string
  readonly advertiserId: number
  readonly advertiser: string
  readonly adomain: string
  /** What is paid for: impressions, clicks or conversions. */
  readonly pricing: 'cpm' | 'cpc' | 'cpa'
  /** Typical cost of an impression, a click, a conversion. */
  readonly costMicros: readonly [number, number, number]
  /** Share of the traffic, relative to the other campaigns. */
  readonly weight: number
}

const ADVERTISERS = [
  ['Müller & Söhne', 'mueller-soehne.example'],
  ['华夏旅行', 'huaxia-travel.example'],
  ['Café Olé', 'cafe-ole.example'],
  ['Søndergård', 'soendergaard.example'],
  ['さくら電機', 'sakura-denki.example'],
  ['Łódź Motors', 'lodz-motors.example'],
  ['한빛게임즈', 'hanbit-games.example'],
  ['Acme, Inc.', 'acme.example'],
] as const

const THEMES = [
  'Spring Sale 🌸',
  '双十一狂欢 🛒',
  'Été sans fin ☀️',
  'Back to School',
  '新年の福袋',
  '“Always on” – brand',
] as const

/** 48 campaigns: each advertiser runs each theme. Prices follow the seed; ids and names do not. */
export function campaignsOf(seed: number): readonly Campaign[] {
  return ADVERTISERS.flatMap(([advertiser, adomain], a) =>
    THEMES.map((theme, t): Campaign => {
      const index = a * THEMES.length + t
      const dice = Number(keyOf(seed, 'campaign', index) % 1_000n)
      const pricing = (['cpm', 'cpc', 'cpm', 'cpa'] as const)[dice % 4] ?? 'cpm'
      return {
        id: 1001 + index,
        name: `${advertiser} · ${theme}`,
        advertiserId: 501 + a,
        advertiser,
        adomain,
        pricing,
        costMicros: [
          pricing === 'cpm' ? 800 + dice * 7 : 0,
          pricing === 'cpc' ? 120_000 + dice * 900 : 0,
          pricing === 'cpa' ? 3_000_000 + dice * 9_000 : 0,
        ],
        weight: 1 / (3 + ((index * 7) % 48)),
      }
    }),
  )
}

export const PUBLISHERS = [
  'Le Monde Été',
  '人民日报',
  'Süddeutsche',
  'Folha São',
  'Night & Day, Inc.',
  'The "Daily" Post',
  '朝日新聞',
  'Новости',
  'El Niño',
  'Kraków Info',
  '☕ Coffee News',
  'مرحبا',
  'Sports Arena',
  'GameHub 🎮',
  'Åre Ski',
  'Weather Now',
] as const

/** City, country (ISO 3166-1 alpha-3, as OpenRTB `geo.country`). */
export const PLACES = [
  ['New York', 'USA'],
  ['München', 'DEU'],
  ['São Paulo', 'BRA'],
  ['北京', 'CHN'],
  ['上海', 'CHN'],
  ['東京', 'JPN'],
  ['서울', 'KOR'],
  ['Zürich', 'CHE'],
  ['Kraków', 'POL'],
  ['İstanbul', 'TUR'],
  ['Київ', 'UKR'],
  ['القاهرة', 'EGY'],
  ['Montréal', 'CAN'],
  ['Bogotá', 'COL'],
  ['Đà Nẵng', 'VNM'],
  ['मुंबई', 'IND'],
  ['London', 'GBR'],
  ['Malmö', 'SWE'],
  ['Reykjavík', 'ISL'],
  ['Lagos', 'NGA'],
] as const

/** Drawn with equal chance: repeated entries are the market shares. */
export const DEVICE_OS = ['Android', 'Android', 'Android', 'iOS', 'iOS', 'Windows', 'macOS', 'tvOS'] as const

/** Relative number of events in each hour of a day. */
export const HOURLY_WEIGHT = [
  34, 26, 20, 16, 14, 16, 24, 38, 52, 60, 64, 66, 70, 68, 64, 62, 66, 74, 86, 98, 104, 96, 74, 50,
] as const
