"""Files of scikit-learn (exported by skl2onnx), XGBoost and LightGBM (by onnxmltools)."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.conversion.recipes import ROWS, Inputs, recipe


def fresh(x: np.ndarray, missing: float = 0.0) -> np.ndarray:
    """float32 [ROWS, columns]: half uniform in each column's range, half values of training rows, mixed by column, so
    that thresholds are met exactly; a share of them missing (NaN)."""
    rng = np.random.default_rng(20)
    half = ROWS // 2
    uniform = rng.uniform(np.nanmin(x, 0), np.nanmax(x, 0), (half, x.shape[1]))
    mixed = np.stack([rng.choice(column, ROWS - half) for column in x.T], 1)
    rows = np.concatenate([uniform, mixed]).astype(np.float32)
    rows[rng.random(rows.shape) < missing] = np.nan
    return rows


def with_missing(x: np.ndarray, share: float) -> np.ndarray:
    x = x.astype(np.float32).copy()
    x[np.random.default_rng(10).random(x.shape) < share] = np.nan
    return x


# scikit-learn, exported by skl2onnx


def sklearn_file(path: Path, model: Any, x: np.ndarray, missing: float = 0.0) -> Inputs:
    """Exports a fitted model over float columns."""
    from skl2onnx import to_onnx

    classifier = hasattr(model, "predict_proba")
    options = {id(model): {"zipmap": False}} if classifier else None
    path.write_bytes(to_onnx(model, x[:1].astype(np.float32), options=options).SerializeToString())
    return {"X": fresh(x, missing)}


def dataset(name: str) -> tuple[np.ndarray, np.ndarray]:
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")()
    return data.data.astype(np.float32), data.target


@recipe("sklearn random forest")
def random_forest(path: Path) -> Inputs:
    from sklearn.ensemble import RandomForestClassifier

    x, y = dataset("wine")
    return sklearn_file(path, RandomForestClassifier(50, random_state=0).fit(x, y), x)


@recipe("sklearn gradient boosting")
def gradient_boosting(path: Path) -> Inputs:
    from sklearn.ensemble import GradientBoostingClassifier

    x, y = dataset("breast_cancer")
    return sklearn_file(path, GradientBoostingClassifier(random_state=0).fit(x, y), x)


@recipe("sklearn hist gradient boosting, missing values")
def hist_gradient_boosting(path: Path) -> Inputs:
    from sklearn.ensemble import HistGradientBoostingRegressor

    x, y = dataset("diabetes")
    x = with_missing(x, 0.1)
    return sklearn_file(path, HistGradientBoostingRegressor(random_state=0).fit(x, y), x, 0.1)


@recipe("sklearn SVC, probabilities")
def svc(path: Path) -> Inputs:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    x, y = dataset("wine")
    return sklearn_file(path, make_pipeline(StandardScaler(), SVC(probability=True, random_state=0)).fit(x, y), x)


@recipe("sklearn SVR")
def svr(path: Path) -> Inputs:
    from sklearn.svm import SVR

    x, y = dataset("diabetes")
    return sklearn_file(path, SVR(C=100).fit(x, y), x)


@recipe("sklearn k nearest neighbours")
def neighbours(path: Path) -> Inputs:
    from sklearn.neighbors import KNeighborsClassifier

    x, y = dataset("iris")
    return sklearn_file(path, KNeighborsClassifier(5, weights="distance").fit(x, y), x)


@recipe("sklearn columns, strings, logistic regression")
def columns(path: Path) -> Inputs:
    """Imputer and scaler over numbers, imputer and one-hot over strings, logistic regression of three classes."""
    import pandas as pd
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rng = np.random.default_rng(0)
    numbers = with_missing(rng.normal(size=(400, 2)) * (30, 5) + (40, 2), 0.1)
    cities, plans = rng.choice(["Oslo", "Bergen", "Tromsø", "Å"], 400), rng.choice(["free", "paid"], 400)
    frame = pd.DataFrame({"age": numbers[:, 0], "visits": numbers[:, 1], "city": cities, "plan": plans}).astype(
        {"city": object, "plan": object}
    )
    score = np.nan_to_num(numbers[:, 0]) / 30 + (cities == "Oslo") - (plans == "free")
    y = np.array(["low", "middle", "high"])[np.digitize(score, np.quantile(score, [0.3, 0.6]))]
    model = make_pipeline(
        ColumnTransformer(
            [
                ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["age", "visits"]),
                ("words", OneHotEncoder(handle_unknown="ignore"), ["city", "plan"]),
            ]
        ),
        LogisticRegression(max_iter=1000),
    ).fit(frame, y)
    kinds = [(name, FloatTensorType([None, 1])) for name in ("age", "visits")]
    kinds += [(name, StringTensorType([None, 1])) for name in ("city", "plan")]
    file = to_onnx(model, initial_types=kinds, options={id(model): {"zipmap": False}})
    path.write_bytes(file.SerializeToString())
    rows = fresh(numbers, 0.1)
    return {
        "age": rows[:, :1],
        "visits": rows[:, 1:],
        "city": rng.choice(["Oslo", "Bergen", "Tromsø", "Å", "Paris", ""], (ROWS, 1)),
        "plan": rng.choice(["free", "paid", "Free"], (ROWS, 1)),
    }


@recipe("sklearn PCA, MLP")
def mlp(path: Path) -> Inputs:
    from sklearn.decomposition import PCA
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    x, y = dataset("digits")
    model = make_pipeline(MinMaxScaler(), PCA(20, random_state=0), MLPClassifier((32,), max_iter=60, random_state=0))
    return sklearn_file(path, model.fit(x, y), x)


@recipe("sklearn naive Bayes")
def naive_bayes(path: Path) -> Inputs:
    from sklearn.naive_bayes import GaussianNB

    x, y = dataset("iris")
    return sklearn_file(path, GaussianNB().fit(x, y), x)


@recipe("sklearn isolation forest")
def isolation_forest(path: Path) -> Inputs:
    from skl2onnx import to_onnx
    from sklearn.ensemble import IsolationForest

    x, _ = dataset("iris")
    model = IsolationForest(n_estimators=30, random_state=0).fit(x)
    file = to_onnx(model, x[:1], target_opset={"": 18, "ai.onnx.ml": 3})
    path.write_bytes(file.SerializeToString())
    return {"X": fresh(x)}


# XGBoost and LightGBM, exported by onnxmltools


def boosted(path: Path, kind: str, model: Any, x: np.ndarray, missing: float, **settings: Any) -> Inputs:
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    function = getattr(onnxmltools, f"convert_{kind}")
    file = function(model, initial_types=[("X", FloatTensorType([None, x.shape[1]]))], target_opset=15, **settings)
    path.write_bytes(file.SerializeToString())
    return {"X": fresh(x, missing)}


@recipe("xgboost classifier, three classes")
def xgboost_classifier(path: Path) -> Inputs:
    import xgboost

    x, y = dataset("wine")
    model = xgboost.XGBClassifier(n_estimators=30, max_depth=4, random_state=0).fit(x, y)
    return boosted(path, "xgboost", model, x, 0.0)


@recipe("xgboost regressor, missing values")
def xgboost_regressor(path: Path) -> Inputs:
    import xgboost

    x, y = dataset("diabetes")
    x = with_missing(x, 0.1)
    model = xgboost.XGBRegressor(n_estimators=40, max_depth=5, random_state=0).fit(x, y)
    return boosted(path, "xgboost", model, x, 0.1)


@recipe("lightgbm classifier, two classes")
def lightgbm_classifier(path: Path) -> Inputs:
    import lightgbm

    x, y = dataset("breast_cancer")
    model = lightgbm.LGBMClassifier(n_estimators=40, random_state=0, verbose=-1).fit(x, y)
    return boosted(path, "lightgbm", model, x, 0.0, zipmap=False)


@recipe("lightgbm regressor, missing values")
def lightgbm_regressor(path: Path) -> Inputs:
    import lightgbm

    x, y = dataset("diabetes")
    x = with_missing(x, 0.1)
    model = lightgbm.LGBMRegressor(n_estimators=40, random_state=0, verbose=-1).fit(x, y)
    return boosted(path, "lightgbm", model, x, 0.1)
