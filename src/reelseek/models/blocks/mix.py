"""A transformer whose only notion of structure is which token may attend to which."""

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PostNormLayer", "PostNormTransformer"]


class PostNormLayer(nn.Module):
    """BERT's layer: attention, then a feed-forward net, each added and then normalised (Devlin et al. 2019)."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def _split(self, values: Tensor) -> Tensor:
        videos, tokens, width = values.shape
        return values.view(videos, tokens, self.heads, width // self.heads).transpose(1, 2)

    def forward(
        self, values: Float[Tensor, "video token dim"], mask: Bool[Tensor, "video token token"]
    ) -> Float[Tensor, "video token dim"]:
        rate = self.dropout if self.training else 0.0
        attended = functional.scaled_dot_product_attention(
            self._split(self.query(values)),
            self._split(self.key(values)),
            self._split(self.value(values)),
            attn_mask=mask[:, None],
            dropout_p=rate,
        )
        attended = self.out(attended.transpose(1, 2).flatten(2))
        values = self.norm1(values + functional.dropout(attended, rate, self.training))
        inner = self.fc2(functional.gelu(self.fc1(values)))
        mixed: Tensor = self.norm2(values + functional.dropout(inner, rate, self.training))
        return mixed


class PostNormTransformer(nn.Module):
    """Layers of PostNormLayer over one mask. No row of the mask may be empty."""

    def __init__(self, *, depth: int, width: int, heads: int, inner: int, dropout: float, eps: float = 1e-12) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PostNormLayer(width, heads, inner, dropout, eps) for _ in range(depth))

    def forward(
        self, values: Float[Tensor, "video token dim"], mask: Bool[Tensor, "video token token"]
    ) -> Float[Tensor, "video token dim"]:
        for layer in self.layers:
            values = layer(values, mask)
        return values
