"""The networks that faults are planted in, by name."""

from __future__ import annotations

from bench.zoo.network import Network
from bench.zoo.networks.digits import Digits
from bench.zoo.networks.language import Language, gpt2, llama
from bench.zoo.networks.lookup import Lookup
from bench.zoo.networks.sentences import Sentences

NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (Language("gpt2", gpt2), Language("llama", llama), Sentences(), Digits(), Lookup())
}
