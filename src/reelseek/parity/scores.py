from reelseek.parity.fixture import Fixture, Found
def metrics(fixture: Fixture) -> Found: return {}
