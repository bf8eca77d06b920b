"""Words and phrases of the playground's world: by topic, by tone, and common ones.

Tables are ordered from the most common entry to the rarest.
"""


def listed(entries: str) -> tuple[str, ...]:
  """Returns the entries of a comma-separated list."""
  return tuple(entry.strip() for entry in entries.split(','))


# Insulting a person other than oneself is toxic; insulting a thing is not. So no word is both a
# person and a thing.
TOPICS = {
  'football': {
    'event': listed('match, derby, final, penalty shootout, transfer window, cup draw'),
    'person': listed('coach, referee, striker, goalkeeper, captain'),
    'thing': listed('pitch, ball, jersey, stadium, whistle, scoreboard, corner flag'),
    'do': listed('pass, kick, save, defend, book'),
  },
  'cooking': {
    'event': listed('dinner, barbecue, brunch, bake sale, cooking class, tasting'),
    'person': listed('chef, waiter, baker, butcher, dishwasher'),
    'thing': listed('soup, oven, sauce, knife, recipe, bread, frying pan, gravy'),
    'do': listed('cook, taste, bake, stir, burn'),
  },
  'code': {
    'event': listed('release, code review, outage, merge, hackathon, sprint'),
    'person': listed('developer, maintainer, tester, intern, architect'),
    'thing': listed('laptop, compiler, parser, server, database, patch, keyboard, script'),
    'do': listed('debug, compile, deploy, refactor, revert'),
  },
  'weather': {
    'event': listed('storm, heatwave, flood, first snow, forecast, drizzle'),
    'person': listed('forecaster, sailor, lifeguard, presenter, meteorologist'),
    'thing': listed('umbrella, raincoat, roof, barometer, heater, snow shovel, thermometer'),
    'do': listed('predict, measure, carry, cover, dry'),
  },
  'politics': {
    'event': listed('election, debate, budget vote, rally, press briefing, recount'),
    'person': listed('mayor, minister, senator, spokesman, lobbyist'),
    'thing': listed('ballot, tax plan, speech, motion, petition, manifesto, treaty'),
    'do': listed('support, oppose, sign, veto, amend'),
  },
  'films': {
    'event': listed('premiere, trailer, sequel, film festival, screening, remake'),
    'person': listed('director, actor, critic, stuntman, producer'),
    'thing': listed('plot, camera, soundtrack, costume, poster, ending, popcorn'),
    'do': listed('watch, rate, shoot, rewind, edit'),
  },
  'gardens': {
    'event': listed('flower show, harvest, plant sale, spring planting, frost, garden tour'),
    'person': listed('gardener, florist, botanist, landscaper, beekeeper'),
    'thing': listed('lawn, hedge, rose bush, compost, greenhouse, rake, watering can, shed'),
    'do': listed('plant, water, prune, weed, trim'),
  },
  'travel': {
    'event': listed('flight, road trip, cruise, train strike, layover, festival'),
    'person': listed('pilot, tour guide, conductor, receptionist, taxi driver'),
    'thing': listed('suitcase, hotel, passport, ticket, map, tent, backpack, ferry'),
    'do': listed('pack, visit, reserve, cancel, find'),
  },
  'music': {
    'event': listed('concert, album launch, rehearsal, audition, open mic, reunion tour'),
    'person': listed('singer, drummer, guitarist, pianist, composer'),
    'thing': listed('guitar, song, microphone, piano, chorus, speaker, playlist, violin'),
    'do': listed('play, record, tune, mix, hear'),
  },
  'cars': {
    'event': listed('race, test drive, recall, traffic jam, inspection, auction'),
    'person': listed('mechanic, driver, salesman, engineer, cyclist'),
    'thing': listed('engine, gearbox, tyre, bumper, van, clutch, exhaust, steering wheel'),
    'do': listed('drive, park, repair, sell, wash'),
  },
  'school': {
    'event': listed('exam, lecture, graduation, parents evening, science fair, field trip'),
    'person': listed('teacher, student, principal, librarian, professor'),
    'thing': listed('essay, textbook, timetable, homework, blackboard, pencil, report card'),
    'do': listed('study, grade, teach, read, revise'),
  },
  'pets': {
    'event': listed('dog show, vet visit, puppy class, cat video, adoption day, parade'),
    'person': listed('vet, breeder, groomer, trainer, zookeeper'),
    'thing': listed('leash, kennel, litter box, collar, aquarium, cage, toy mouse, blanket'),
    'do': listed('feed, walk, groom, train, brush'),
  },
}

TONES = {
  'harsh': {
    'noun': listed(
      'idiot, moron, clown, loser, fool, coward, liar, disgrace, fraud, joke, hypocrite, brat, '
      'troll, dimwit, parasite, buffoon, halfwit, muppet, snob, crybaby, numpty, weasel, '
      'blockhead, creep, dunce, nitwit, bonehead, slob, windbag, twerp, pillock, wazzock, doofus, '
      'knucklehead, gobbler'
    ),
    'adjective': listed(
      'pathetic, stupid, useless, dumb, clueless, worthless, ridiculous, lazy, disgusting, '
      'ignorant, brainless, incompetent, miserable, annoying, gutless, vile, spineless, '
      'shameless, arrogant, rotten, petty, idiotic, mindless, smug, moronic, whiny, gormless, '
      'foul, hopeless, laughable, spiteful, nasty, witless, sleazy, obnoxious, thick'
    ),
    'trash': listed('garbage, trash, rubbish, junk, nonsense, filth, sludge, drivel'),
    'intensifier': listed(
      'so, damn, utterly, completely, bloody, freaking, unbelievably, painfully, hopelessly, '
      'insanely'
    ),
    'emphasis': listed('complete, total, utter, damn, absolute, bloody, massive, raging'),
  },
  'warm': {
    'noun': listed(
      'hero, genius, star, legend, friend, expert, gem, champion, angel, treasure, role model, '
      'pro, wizard, scholar, gentleman, artist, saint, talent, master, inspiration, delight, ace, '
      'visionary, prodigy, sweetheart'
    ),
    'adjective': listed(
      'clever, kind, smart, brilliant, helpful, thoughtful, lovely, talented, wonderful, '
      'patient, generous, charming, wise, gifted, funny, skilful, decent, gracious, bright, '
      'careful, graceful, sensible, creative, polite, reliable, witty, humble, caring, capable, '
      'sincere, delightful, splendid, insightful, courteous'
    ),
    'trash': listed('magic, poetry, gold, joy, beauty, perfection'),
    'intensifier': listed(
      'so, really, truly, very, genuinely, remarkably, wonderfully, incredibly, amazingly, deeply'
    ),
    'emphasis': listed('true, real, total, wonderful, great, proper, absolute, lovely'),
  },
}

COMMON = {
  'judgement': ('{nominal}', '{adjectival}'),
  'nominal': (
    'a {adjective} {noun}',
    'a {noun}',
    'a {emphasis} {noun}',
    'a {intensifier} {adjective} {noun}',
  ),
  'adjectival': ('{intensifier} {adjective}', '{adjective} and {adjective}', '{adjective}'),
  'kin': listed(
    'brother, sister, wife, neighbour, boss, cousin, husband, uncle, flatmate, dad, aunt, '
    'grandmother'
  ),
  'time': listed(
    'last night, yesterday, this morning, on sunday, last week, today, this weekend, on friday, '
    'last summer, the other day, two days ago, after lunch, on monday, tonight, in march, at noon, '
    'before work, this winter, in april, all week'
  ),
  'someone': listed('someone, she, he, they, a stranger, one user, a reader, the moderator'),
  'plain': listed(
    'new, long, early, quiet, local, small, late, cheap, busy, different, short, open'
  ),
  'harmed': listed('ruined, wrecked, broke, spoiled, botched, butchered'),
  'repaired': listed('fixed, saved, handled, rescued, improved, finished'),
}
